"""Every edge that leaves ``running`` by the worker's own word, and the budget of failures."""

import itertools

import pytest

from models import job_store
from models.errors import LeaseLost
from models.job_state import EndCause, JobStatus
from models.job_store.restarts import Restarted
from tests.contract.world import LEASE, WEIGHTS, World, position, step_row


def test_finished(world: World) -> None:
    fence = world.running()
    world.commit(fence, 100, epoch=4, val_loss=0.5)
    job_store.finish(world.db, fence, WEIGHTS)
    job = world.job(fence.job_id)
    assert (job.status, job.weights_sha256, job.epochs_done) == ("succeeded", WEIGHTS, 4)
    assert job.finished_at is not None and job.worker_id is None and job.lease_expires_at is None
    [line] = world.attempts(fence.job_id)
    assert line.end_cause == "finished" and line.ended_at is not None
    assert world.events(fence.job_id)[-1] == "succeeded"


def test_after_a_finish_there_are_rows_of_the_surviving_weights_only(world: World) -> None:
    """Another CPU took over and stopped early, before where the first had come (I3)."""
    fence = world.running()
    world.prepare(fence)
    steps = [step_row(n, epoch=1 if n <= 10 else 2) for n in range(1, 21)]
    first = world.commit(fence, 10, epoch=1, val_loss=0.4, steps=steps[:10])
    second = world.commit(fence, 20, epoch=2, val_loss=0.1, steps=steps[10:])
    job_store.record_metrics(world.db, fence, [step_row(21, epoch=3)], position(21, epochs_done=2))
    job_store.reject_checkpoint(world.db, fence, second, "The hash differs.")
    fence = world.restart(fence).fence
    world.prepare(fence, step=10, from_checkpoint=first, epochs_done=1, inexact_reasons=["another CPU"])
    job_store.finish(world.db, fence, WEIGHTS, stopped_early=True)
    left = job_store.step_metrics(world.db, fence.job_id, limit=100)
    assert [row.step for row in left] == list(range(1, 11))
    assert [row.epoch for row in job_store.epoch_metrics(world.db, fence.job_id)] == [1]
    job = world.job(fence.job_id)
    assert (job.best_epoch, job.best_val_loss, job.best_checkpoint_id) == (1, 0.4, first)


def test_a_finish_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    job_store.finish(world.db, fence, WEIGHTS)
    before = world.dump()
    job_store.finish(world.db, fence, WEIGHTS)
    assert world.dump() == before


def test_an_error_that_retrying_cannot_mend(world: World) -> None:
    fence = world.running()
    for _ in range(2):  # the second time after a lost reply
        job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "dataset_changed", "tulip/3.jpg differs.")
    job = world.job(fence.job_id)
    assert (job.status, job.error_code, job.error_message) == (
        "failed", "dataset_changed", "tulip/3.jpg differs.",
    )  # fmt: skip
    assert job.failures == 0
    assert world.events(fence.job_id) == ["created", "claimed", "failed"]
    assert world.attempts(fence.job_id)[0].end_detail == "tulip/3.jpg differs."


def test_a_failure_of_a_job_that_was_to_be_cancelled_is_a_cancellation(world: World) -> None:
    fence = world.running()
    job_store.cancel(world.db, fence.job_id)
    job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "dataset_changed", "It differs.")
    job = world.job(fence.job_id)
    assert (job.status, job.error_code) == ("cancelled", None)


def test_an_orderly_release_spends_no_budget(world: World) -> None:
    job_id = world.submit()
    for number in range(1, 26):
        fence = world.claimed().fence
        assert job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.") == JobStatus.QUEUED
        job = world.job(job_id)
        assert (job.status, job.attempt, job.failures, job.losses) == ("queued", number, 0, 0)
    assert {line.end_cause for line in world.attempts(job_id)} == {"preempted"}


@pytest.mark.parametrize(
    ("requests", "status", "cause"),
    [(["cancel"], "cancelled", "cancelled"), (["pause"], "paused", "paused"),
     (["pause", "cancel"], "cancelled", "cancelled"), (["cancel", "pause"], "cancelled", "cancelled"),
     ([], "queued", "preempted")],
)  # fmt: skip
def test_a_release_goes_where_a_request_leads(
    world: World, requests: list[str], status: str, cause: str
) -> None:
    fence = world.running()
    for request in requests:
        getattr(job_store, request)(world.db, fence.job_id)
    assert job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.") == status
    job = world.job(fence.job_id)
    assert (job.status, job.cancel_requested, job.pause_requested) == (status, False, False)
    assert (job.finished_at is not None) == (status == "cancelled")
    assert (job.paused_at is not None) == (status == "paused")
    assert world.attempts(fence.job_id)[0].end_cause == cause


# -- Resuming on the spot ----------------------------------------------------------------------------


def test_a_restart_keeps_the_lease_and_raises_the_attempt(world: World) -> None:
    fence = world.running(lease=2.0)
    world.prepare(fence)
    checkpoint = world.commit(fence, 10)
    job_store.record_progress(world.db, fence, position(17))
    after = world.restart(fence, step=19, detection_seconds=0.02)
    assert isinstance(after, Restarted)
    assert after.fence == job_store.Fence(fence.job_id, 2)
    assert [row.id for row in after.checkpoints] == [checkpoint]
    job = world.job(fence.job_id)
    assert (job.status, job.attempt, job.step, job.committed_step) == ("running", 2, 19, 10)
    assert (job.worker_id, job.failures, job.recoveries) == ("wrk_1", 1, 1)
    assert job_store.renew(world.db, after.fence, LEASE)
    first, second = world.attempts(fence.job_id)
    assert (first.end_cause, first.detection_seconds) == ("trainer_killed", 0.02)
    assert (second.worker_id, second.ended_at) == ("wrk_1", None)
    assert world.events(fence.job_id)[-1] == "restarted"


def test_a_restart_revives_a_lease_that_nobody_took(world: World) -> None:
    fence = world.running(lease=-1.0)
    world.restart(fence)
    assert world.expire() == []


@pytest.mark.parametrize("max_failures", [1, 2, 5])
def test_failures_without_progress_end_the_job(world: World, max_failures: int) -> None:
    fence = world.running(fault_tolerance={"max_failures": max_failures})
    for failures in range(1, max_failures):
        after = world.restart(fence)
        assert isinstance(after, Restarted) and after.job.failures == failures
        fence = after.fence
    assert world.restart(fence) == JobStatus.FAILED
    job = world.job(fence.job_id)
    assert (job.status, job.error_code, job.attempt) == ("failed", "no_progress", max_failures)
    assert f"{max_failures} failures" in job.error_message and "SIGKILL" in job.error_message
    assert len(world.attempts(fence.job_id)) == max_failures


def test_progress_refills_the_budget(world: World) -> None:
    fence = world.running(fault_tolerance={"max_failures": 3})
    for step in range(1, 11):
        for _ in range(2):
            fence = world.restart(fence).fence
        world.commit(fence, step)
    assert world.job(fence.job_id).recoveries == 20
    world.restart(fence)
    assert world.job(fence.job_id).status == "running"


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_trainer_that_dies_under_a_request_is_not_started_again(
    world: World, request_: str, status: str
) -> None:
    fence = world.running()
    getattr(job_store, request_)(world.db, fence.job_id)
    assert world.restart(fence) == status
    job = world.job(fence.job_id)
    assert (job.status, job.attempt, job.error_code) == (status, 1, None)


def test_a_request_counts_more_than_a_spent_budget(world: World) -> None:
    fence = world.running(fault_tolerance={"max_failures": 1})
    job_store.pause(world.db, fence.job_id)
    assert world.restart(fence) == JobStatus.PAUSED


def test_seconds_of_running_add_up_over_attempts(world: World) -> None:
    fence = world.running()
    for _ in range(3):
        fence = world.restart(fence).fence
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    lines = world.attempts(fence.job_id)
    total = sum((line.ended_at - line.started_at).total_seconds() for line in lines)
    assert world.job(fence.job_id).running_seconds == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("ending", ["finish", "fail", "release", "restart", "expire"])
def test_after_any_ending_the_old_attempt_holds_nothing(world: World, ending: str) -> None:
    fence = world.running()
    match ending:
        case "finish":
            job_store.finish(world.db, fence, WEIGHTS)
        case "fail":
            job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "dataset_invalid", "Empty.")
        case "release":
            job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
        case "restart":
            world.restart(fence)
        case "expire":
            assert world.lose(fence.job_id) == [fence.job_id]
    with pytest.raises(LeaseLost):
        job_store.renew(world.db, fence, LEASE)
    with pytest.raises(LeaseLost):
        job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")


def test_the_attempt_never_falls(world: World) -> None:
    job_id = world.submit()
    seen = [0]
    for number in itertools.count(1):
        fence = world.claimed().fence
        seen.append(world.job(job_id).attempt)
        fence = world.restart(fence).fence
        seen.append(world.job(job_id).attempt)
        if number % 3 == 0:
            job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "storage_failed", "Full.")
            job_store.retry(world.db, job_id)
        elif number % 3 == 1:
            world.lose(job_id)
        else:
            job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
        if number == 9:
            break
    assert seen == list(range(19))
