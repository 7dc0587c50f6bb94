"""Where no trainer can be forked from a warm process (macOS) each starts cold, with the same promises."""

import os
import signal
from typing import Any

import pytest

from tests.faults.partitions import await_commit
from tests.faults.sabotage import Pace
from tests.faults.untouched import UntouchedRuns
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack, command_line, tree

SPEC = full_fine_tune(4)
PER_CLASS = 10


def trains_again(stack: Stack, job_id: str) -> dict[str, Any] | None:
    """The line of a second attempt that has done a step."""
    last = stack.rows(f"/jobs/{job_id}/attempts")[-1]
    return last if last["attempt"] == 2 and last["first_step_at"] else None


@pytest.mark.hours  # every start imports torch anew
def test_killed_trainers_and_supervisors_change_no_bit(
    make_stack: Any, pace: Pace, untouched: UntouchedRuns
) -> None:
    quiet = untouched(SPEC, per_class=PER_CLASS)
    with make_stack("sqlite", PERDURE_START_METHOD="spawn", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker()
        pace.dawdle()
        job_id = stack.submit(SPEC)
        await_commit(stack, job_id)
        assert [p.ppid() for p in tree(worker.pid) if "worker.training" in command_line(p)] == [worker.pid]
        assert not any("worker.zygote" in command_line(p) for p in tree(worker.pid))

        [first] = stack.rows(f"/jobs/{job_id}/attempts")
        os.kill(first["trainer_pid"], signal.SIGKILL)
        # Not by the job's steps: the last ones of the first attempt may be recorded after its death.
        second = until(
            lambda: trains_again(stack, job_id), seconds=60, what="the second attempt's first step"
        )

        [trainer] = [p for p in tree(worker.pid) if p.pid == second["trainer_pid"]]
        worker.kill()
        until(lambda: not trainer.is_running(), seconds=10, what="the orphaned trainer to be gone")
        worker.wait(10)
        pace.hurry()
        stack.start_worker()
        stack.await_status(job_id, "succeeded")

        causes = [row["end_cause"] for row in stack.rows(f"/jobs/{job_id}/attempts")]
        assert causes == ["trainer_killed", "worker_lost", "finished"]
        quiet.check(stack, job_id)
