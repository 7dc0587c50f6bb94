"""Fault 33: killed, and killed again in the recovery, and in the recovery from that."""

import signal
import time
from typing import Any

import psutil
import pytest

from models import job_store
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.stack import Stack, kill_tree, signal_all

#: What is killed, and so many seconds after a trainer is there: a recovery takes about half a second.
KILLS = (("trainer", 0.0), ("trainer", 0.0), ("worker", 0.1),
         ("trainer", 0.2), ("trainer", 0.3), ("trainer", 0.0))  # fmt: skip


def next_with_a_trainer(stack: Stack, job_id: str, after: int) -> Any:
    def look() -> Any:
        last = job_store.job_attempts(stack.db, job_id, limit=100)[-1]
        return last if last.attempt > after and last.trainer_pid is not None else None

    return until(look, seconds=60, what=f"a trainer after attempt {after}")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_killed_again_in_every_recovery(kind: str, make_stack: Any, pace: Pace, quiet: Untouched) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()
        job_id = under_way(stack, pace)
        attempt = 0
        for victim, seconds in KILLS:
            killed = next_with_a_trainer(stack, job_id, after=attempt)
            attempt = killed.attempt
            time.sleep(seconds)  # the moment itself is what differs
            if victim == "worker":
                kill_tree(killed.worker_pid)
            else:
                signal_all([psutil.Process(killed.trainer_pid)], signal.SIGKILL)
        pace.hurry()
        stack.await_status(job_id, "succeeded")
        quiet.check(stack, job_id)

        rows = stack.rows(f"/jobs/{job_id}/attempts")
        assert len(rows) == len(KILLS) + 1
        in_recovery = [row for row in rows[1:-1] if row["first_step_at"] is None]
        assert len(in_recovery) >= 2, "kills that come after a recovery prove little here"
