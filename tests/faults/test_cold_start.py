"""Where no trainer can be forked from a warm process (macOS) each starts cold, with the same promises."""

import os
import signal
from typing import Any

from tests.faults.partitions import await_commit, await_steps
from tests.faults.sabotage import Pace
from tests.faults.untouched import UntouchedRuns
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import command_line, tree

SPEC = full_fine_tune(4)
PER_CLASS = 10


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
        await_steps(stack, job_id, more_than=stack.job(job_id)["progress"]["step"])

        [_, second] = stack.rows(f"/jobs/{job_id}/attempts")
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
