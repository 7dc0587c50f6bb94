"""Fault 6, and the stops that users ask for: nothing is lost and no budget is spent."""

import os
import signal
import subprocess
from typing import Any

import pytest

from models import job_store
from tests.faults.partitions import await_commit
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack, kill_tree

#: That a worker leaves its trainer, where a test waits for it.
STOP_SECONDS = 2.0


def amid_an_epoch(stack: Stack, job_id: str) -> Any:
    """Once steps are known that no checkpoint holds."""

    def look() -> Any:
        row = job_store.get_job(stack.db, job_id)
        return row if row.status == "running" and row.step > row.committed_step else None

    return until(look, seconds=60, what="uncommitted steps")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_sigterm_loses_no_step(kind: str, make_stack: Any, pace: Pace, quiet: Untouched) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker()
        job_id = under_way(stack, pace)
        amid_an_epoch(stack, job_id)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, stack.log_of(worker)
        handed_back = job_store.get_job(stack.db, job_id)
        assert handed_back.status == "queued"
        assert handed_back.step == handed_back.committed_step > 0
        assert handed_back.failures == handed_back.losses == 0
        pace.hurry()
        stack.start_worker()
        stack.await_status(job_id, "succeeded")

        first, second = stack.rows(f"/jobs/{job_id}/attempts")
        assert (first["end_cause"], second["steps_redone"]) == ("preempted", 0)
        quiet.check(stack, job_id)


@pytest.mark.long
# Longer than a supervisor waits for its trainer, and shorter.
@pytest.mark.parametrize("grace_seconds", [pytest.param(20 * STOP_SECONDS, marks=pytest.mark.hours), 1.0])
def test_sigterm_to_a_worker_whose_trainer_does_not_answer(
    grace_seconds: float, make_stack: Any, pace: Pace, quiet: Untouched
) -> None:
    """SIGKILL comes after the grace, for who is still there; then the last checkpoint is what counts."""
    with make_stack("sqlite", **pace.environment, PERDURE_STOP_SECONDS=str(STOP_SECONDS)) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker()
        job_id = under_way(stack, pace)
        [attempt] = stack.rows(f"/jobs/{job_id}/attempts")
        os.kill(attempt["trainer_pid"], signal.SIGSTOP)
        worker.send_signal(signal.SIGTERM)
        try:
            assert worker.wait(grace_seconds) == 0
        except subprocess.TimeoutExpired:
            kill_tree(worker.pid)
        pace.hurry()
        stack.start_worker()
        stack.await_status(job_id, "succeeded")
        first, _ = stack.rows(f"/jobs/{job_id}/attempts")
        assert first["end_cause"] == ("preempted" if grace_seconds > STOP_SECONDS else "worker_lost")
        quiet.check(stack, job_id)


def test_pause_resume_extend_and_cancel(make_stack: Any, pace: Pace) -> None:
    with make_stack("sqlite", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=100)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(full_fine_tune(2))
        untouched = stack.await_status(quiet, "succeeded")

        pace.dawdle()
        job_id = stack.submit(full_fine_tune(2))
        await_commit(stack, job_id)
        amid_an_epoch(stack, job_id)
        assert stack.http.post(f"/jobs/{job_id}/pause").status_code == 202
        paused = stack.await_status(job_id, "paused")
        pace.hurry()
        assert paused["progress"]["step"] > 0
        assert stack.http.post(f"/jobs/{job_id}/pause").status_code == 200
        assert stack.http.post(f"/jobs/{job_id}/resume").status_code == 202
        resumed = stack.await_status(job_id, "succeeded")
        assert resumed["weights_sha256"] == untouched["weights_sha256"]
        assert [row["end_cause"] for row in stack.rows(f"/jobs/{job_id}/attempts")] == ["paused", "finished"]

        extended = stack.http.post(f"/jobs/{job_id}/extend", json={"additional_epochs": 2})
        assert extended.status_code == 202, extended.text
        finished = stack.await_status(job_id, "succeeded")
        assert [row["epoch"] for row in metrics_of(stack, job_id)["epoch"]] == [1, 2, 3, 4]
        assert finished["weights_sha256"] != resumed["weights_sha256"]
        # A pause that fell on the end of an epoch was verified, too.
        *_, verified = [e for e in stack.rows(f"/jobs/{job_id}/events") if e["type"] == "resume.verified"]
        second_epoch = metrics_of(stack, job_id)["epoch"][1]
        assert verified["data"]["recorded"] == verified["data"]["recomputed"] == second_epoch["val_loss"]

        pace.dawdle()
        cancelled = stack.submit(full_fine_tune(50))
        amid_an_epoch(stack, cancelled)
        assert stack.http.post(f"/jobs/{cancelled}/cancel").status_code == 202
        assert stack.await_status(cancelled, "cancelled")["finished_at"] is not None
        assert stack.http.post(f"/jobs/{cancelled}/cancel").status_code == 200
        assert stack.http.post(f"/jobs/{cancelled}/pause").status_code == 409
        types = event_types(stack, cancelled)
        assert types[-1] == "cancelled"
        assert types.count("cancel_requested") == types.count("cancelled") == 1
