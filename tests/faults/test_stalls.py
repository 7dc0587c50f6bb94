"""Fault 5: a trainer that lives and makes no progress is told from a slow one, shows where it hangs, and is
killed; the job ends like one that was left alone."""

import os
import signal
from typing import Any

import pytest

from tests.faults.sabotage import python_path
from tests.images import draw_dataset
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

STALL_SECONDS = "3"


def stalled_and_resumed(stack: Stack, job_id: str, untouched: dict[str, Any], quiet: str) -> str:
    """What holds however it stalled; the log of the attempt that did."""
    finished = stack.await_status(job_id, "succeeded")
    first, *_ = stack.rows(f"/jobs/{job_id}/attempts")
    assert (first["end_cause"], first["attempt"]) == ("stalled", 1)
    assert 3.0 < first["detection_seconds"] < 20.0
    [restarted] = [e for e in stack.rows(f"/jobs/{job_id}/events") if e["type"] == "restarted"]
    assert restarted["data"]["cause"] == "stalled"
    assert finished["weights_sha256"] == untouched["weights_sha256"]
    assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
    return str(stack.http.get(f"/jobs/{job_id}/logs", params={"attempt": 1}).text)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_thread_that_is_blocked_for_good_is_shown_and_killed(kind: str, make_stack: Any) -> None:
    with make_stack(kind, PYTHONPATH=python_path(), PERDURE_STALL_SECONDS=STALL_SECONDS) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=20)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(full_fine_tune(2))
        untouched = stack.await_status(quiet, "succeeded")
        job_id = stack.submit(full_fine_tune(2, name="block"))
        log = stalled_and_resumed(stack, job_id, untouched, quiet)
        assert "No progress in training for" in log
        assert "wait_for_a_lock_that_nobody_releases" in log, "the log shows where it hung"
        assert "_listen" in log, "and the stacks of all other threads"
        assert "did not answer" not in log


def test_a_stopped_trainer_cannot_say_where_it_hangs_and_is_killed_all_the_same(make_stack: Any) -> None:
    with make_stack("sqlite", PERDURE_STALL_SECONDS=STALL_SECONDS) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(full_fine_tune(4))
        untouched = stack.await_status(quiet, "succeeded")
        job_id = stack.submit(full_fine_tune(4))
        until(lambda: stack.job(job_id)["progress"]["epochs_done"] >= 1, seconds=60, what="an epoch")
        [attempt] = stack.rows(f"/jobs/{job_id}/attempts")
        os.kill(attempt["trainer_pid"], signal.SIGSTOP)
        log = stalled_and_resumed(stack, job_id, untouched, quiet)
        assert "did not answer" in log
        assert "Thread 0x" not in log
