"""Faults 2 and 4: a trainer that segfaults, or that the kernel ends for want of memory, ends alone."""

from typing import Any

import pytest

from tests.faults.memory_limit import memory_limit
from tests.faults.sabotage import python_path
from tests.faults.untouched import Untouched, UntouchedRuns
from tests.images import draw_dataset
from tests.specs import full_fine_tune
from tests.stack import Stack

EPOCHS, PER_CLASS = 4, 10
#: A worker, its zygote and its trainer have room in it.
MEMORY_BYTES = 2_000_000_000


@pytest.fixture
def quiet(untouched: UntouchedRuns) -> Untouched:
    return untouched(full_fine_tune(EPOCHS), per_class=PER_CLASS)


def crashed_and_resumed(stack: Stack, name: str, quiet: Untouched) -> dict[str, Any]:
    """The line of the attempt that crashed."""
    job_id = stack.submit(full_fine_tune(EPOCHS, name=name))
    stack.await_status(job_id, "succeeded")
    quiet.check(stack, job_id)
    [worker] = stack.workers
    first, second = stack.rows(f"/jobs/{job_id}/attempts")
    assert first["worker_pid"] == second["worker_pid"] == worker.pid, "resumed by the one that saw it crash"
    assert second["from_checkpoint"] is not None
    return first


def given_up(stack: Stack, name: str) -> dict[str, Any]:
    """The error of such a job when it may fail only once."""
    job_id = stack.submit(full_fine_tune(EPOCHS, name=name, fault_tolerance={"max_failures": 1}))
    error: dict[str, Any] = stack.await_status(job_id, "failed")["error"]
    assert error["code"] == "no_progress"
    return error


@pytest.mark.long
def test_a_null_pointer(make_stack: Any, quiet: Untouched) -> None:
    with make_stack("sqlite", PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        first = crashed_and_resumed(stack, "segfault", quiet)
        assert first["end_cause"] == "trainer_killed"
        assert "SIGSEGV" in first["end_detail"]
        assert "SIGSEGV" in given_up(stack, "segfault")["message"], "it spends one failure"


def test_the_kernel_runs_out_of_memory(make_stack: Any, quiet: Untouched) -> None:
    with memory_limit(MEMORY_BYTES) as prefix, make_stack("sqlite", PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker(*prefix)
        first = crashed_and_resumed(stack, "hog", quiet)
        assert first["end_cause"] == "out_of_memory"
        assert "killed by the kernel, since memory ran out" in first["end_detail"]
        assert worker.poll() is None, "the trainer went first"

        # Whoever else sends the same signal is not taken for the kernel.
        assert "SIGKILL" in given_up(stack, "crash-after-checkpoints")["message"]
