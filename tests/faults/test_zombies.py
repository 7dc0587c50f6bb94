"""Faults 15 and 27: many bells for one job, and a worker that is frozen past its lease and thawed."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.queue import TASK_NAME, celery_app, queue_name
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack, command_line, signal_all, tree


def trainers(stack: Stack) -> list[psutil.Process]:
    """Processes that train now: children of any zygote."""
    below = [process for worker in stack.workers for process in tree(worker.pid)]
    zygotes = [process.pid for process in below if "worker.zygote" in command_line(process)]
    return [process for process in below if parent(process) in zygotes]


def parent(process: psutil.Process) -> int | None:
    """None for a process that is over, collected by its zygote or not yet."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.ppid()
    except psutil.NoSuchProcess:
        return None


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_ten_doorbells_for_one_job_make_one_claim(kind: str, make_stack: Any) -> None:
    with make_stack(kind) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=20)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()
        until(lambda: len(stack.rows("/workers")) == 2, seconds=30, what="two workers")
        bell = celery_app(stack.broker_url)
        job_id = stack.submit(full_fine_tune(2))
        for _ in range(10):
            bell.send_task(TASK_NAME, queue=queue_name("any"), retry=False)

        def at_most_one_then_done() -> bool:
            assert len(trainers(stack)) <= 1
            return bool(stack.job(job_id)["status"] == "succeeded")

        until(at_most_one_then_done, seconds=60, what="the job to succeed")
        assert len(stack.rows(f"/jobs/{job_id}/attempts")) == 1
        assert [e["type"] for e in stack.rows(f"/jobs/{job_id}/events")].count("claimed") == 1


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.hours), "postgresql"])
def test_a_worker_frozen_past_its_lease_and_thawed_changes_nothing(
    kind: str, make_stack: Any, pace: Pace, quiet: Untouched
) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        first = stack.start_worker()
        job_id = under_way(stack, pace)
        frozen = tree(first.pid)
        signal_all(frozen, signal.SIGSTOP)
        stack.start_worker()
        until(
            lambda: stack.job(job_id)["attempt"] == 2 and stack.job(job_id)["status"] == "running",
            seconds=40, what="another worker to take over",
        )  # fmt: skip
        assert stack.rows(f"/jobs/{job_id}/attempts")[0]["end_cause"] == "worker_lost"
        done = pace.num_steps(attempt=1)
        before = [row for row in stack.rows(f"/jobs/{job_id}/events") if row["attempt"] == 1]
        signal_all(frozen, signal.SIGCONT)  # a parent that is thawed first may have ended its trainer by now

        pace.hurry()
        assert stack.await_status(job_id, "succeeded")["attempt"] == 2
        quiet.check(stack, job_id)
        assert pace.num_steps(attempt=1) <= done + 1, "it goes no further than the step that it was frozen in"
        # The trail of the lost attempt ends where it was lost.
        assert [row for row in stack.rows(f"/jobs/{job_id}/events") if row["attempt"] == 1] == before
        assert first.poll() is None, "the thawed worker lives on and may claim other jobs"
        recorded = {row["path"] for row in stack.rows(f"/jobs/{job_id}/checkpoints")}
        stray = [p for p in Path(stack.home / "storage/jobs" / job_id / "checkpoints").iterdir()
                 if p.relative_to(stack.home / "storage").as_posix() not in recorded]  # fmt: skip
        assert all("attempt-1" in path.name for path in stray), "only the zombie may leave garbage"
