"""Fault 5: a trainer that lives and makes no progress is told from a slow one, shows where it hangs, and is
killed; the job ends like one that was left alone."""

import os
import re
import signal
from typing import Any

import pytest

from tests.faults.sabotage import Pace, python_path
from tests.faults.untouched import Untouched, UntouchedRuns
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.specs import full_fine_tune
from tests.stack import Stack

#: For every phase: longer than a busy machine takes for the slowest, the start of a trainer.
STALL_SECONDS = "8"


def stalled_and_resumed(stack: Stack, job_id: str, quiet: Untouched) -> str:
    """What holds however it stalled; the log of the attempt that did."""
    stack.await_status(job_id, "succeeded")
    first, *_ = stack.rows(f"/jobs/{job_id}/attempts")
    assert (first["end_cause"], first["attempt"]) == ("stalled", 1)
    assert first["detection_seconds"] > float(STALL_SECONDS)
    [restarted] = [e for e in stack.rows(f"/jobs/{job_id}/events") if e["type"] == "restarted"]
    assert restarted["data"]["cause"] == "stalled"
    quiet.check(stack, job_id)
    return str(stack.http.get(f"/jobs/{job_id}/logs", params={"attempt": 1}).text)


# The databases have no part in it.
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_a_thread_that_is_blocked_for_good_is_shown_and_killed(
    kind: str, make_stack: Any, untouched: UntouchedRuns
) -> None:
    quiet = untouched(full_fine_tune(4), per_class=10)
    with make_stack(kind, PYTHONPATH=python_path(), PERDURE_STALL_SECONDS=STALL_SECONDS) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(full_fine_tune(4, name="block"))
        log = stalled_and_resumed(stack, job_id, quiet)
        assert re.search("No progress in (training|validation) for", log), "whichever had the next boundary"
        assert "wait_for_a_lock_that_nobody_releases" in log, "the log shows where it hung"
        assert "_listen" in log, "and the stacks of all other threads"
        assert "did not answer" not in log


@pytest.mark.long  # told apart by one answer only
def test_a_stopped_trainer_cannot_say_where_it_hangs_and_is_killed_all_the_same(
    make_stack: Any, pace: Pace, quiet: Untouched
) -> None:
    with make_stack("sqlite", **pace.environment, PERDURE_STALL_SECONDS=STALL_SECONDS) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        job_id = under_way(stack, pace)
        [attempt] = stack.rows(f"/jobs/{job_id}/attempts")
        os.kill(attempt["trainer_pid"], signal.SIGSTOP)
        pace.hurry()
        log = stalled_and_resumed(stack, job_id, quiet)
        assert "did not answer" in log
        assert "Thread 0x" not in log
