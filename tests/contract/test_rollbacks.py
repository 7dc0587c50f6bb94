"""Fault 24 in the job store: what a rollback abandons, what it keeps, and when it is over."""

import pytest

from models import job_store
from models.job_state import JobStatus
from models.job_store import Fence
from models.job_store.restarts import Restarted
from tests.contract.world import LEASE, World, epoch_row, position, step_row


def asked_to_roll_back(world: World, fence: Fence) -> Restarted | JobStatus | None:
    return job_store.roll_back(
        world.db, fence, "The loss became NaN at step 27.", device="cpu", lease_seconds=LEASE
    )


def roll_back(world: World, fence: Fence) -> Fence | None:
    after = asked_to_roll_back(world, fence)
    assert not isinstance(after, JobStatus)
    return None if after is None else after.fence


def running(world: World, **fault_tolerance: object) -> Fence:
    fence = world.running(fault_tolerance={"on_non_finite": "rollback", **fault_tolerance})
    world.prepare(fence)
    return fence


def test_back_to_the_last_epochs_end_and_never_to_a_checkpoint_within_an_epoch(world: World) -> None:
    fence = running(world)
    world.commit(fence, 10, epoch=1, val_loss=0.5, steps=[step_row(n) for n in range(1, 11)])
    end = world.commit(fence, 20, epoch=2, val_loss=0.4, steps=[step_row(n, epoch=2) for n in range(11, 21)])
    within = world.commit(fence, 25, epoch=3, steps=[step_row(n, epoch=3) for n in range(21, 26)])
    job_store.record_metrics(world.db, fence, [step_row(26, epoch=3)], position(26, epochs_done=2))
    after = roll_back(world, fence)
    assert after == Fence(fence.job_id, 2)
    job = world.job(fence.job_id)
    assert (job.step, job.epochs_done, job.committed_step, job.highest_committed_step) == (20, 2, 20, 25)
    assert job.segments[-1]["slowdowns"] == [{"after_step": 20, "factor": 0.5}]
    assert world.checkpoints(fence.job_id)[end] == "committed"
    assert world.checkpoints(fence.job_id)[within] == "pruned"
    assert [row.step for row in job_store.step_metrics(world.db, fence.job_id, limit=100)] == list(
        range(1, 21)
    )
    assert [row.epoch for row in job_store.epoch_metrics(world.db, fence.job_id)] == [1, 2]
    assert world.event(fence.job_id, "rolled_back").message.endswith(
        "Back to step 20, at 0.5 of the learning rate."
    )


def test_numbers_that_differ_after_a_rollback_are_no_mismatch(world: World) -> None:
    fence = running(world)
    world.commit(fence, 10, epoch=1, val_loss=0.5, steps=[step_row(n) for n in range(1, 11)])
    world.commit(fence, 15, epoch=2, steps=[step_row(n, epoch=2) for n in range(11, 16)])
    after = roll_back(world, fence)
    assert after is not None
    world.prepare(after, step=10)
    world.commit(after, 15, epoch=2, steps=[step_row(n, 9.9, epoch=2) for n in range(11, 16)])
    assert "determinism.mismatch" not in world.events(fence.job_id)


def test_to_the_beginning_where_no_epoch_has_ended(world: World) -> None:
    fence = running(world)
    world.commit(fence, 5)
    assert roll_back(world, fence) is not None
    job = world.job(fence.job_id)
    assert (job.step, job.committed_step, job.segments[-1]["slowdowns"][0]["after_step"]) == (0, 0, 0)


def test_the_best_epoch_falls_with_the_epochs_that_are_abandoned(world: World) -> None:
    fence = running(world)
    first = world.commit(fence, 10, epoch=1, val_loss=0.5)
    # The second epoch ended without a checkpoint of its own; one within the third sealed it.
    checkpoint = world.checkpoint(25, epoch=3)
    job_store.commit_checkpoint(
        world.db,
        fence,
        checkpoint,
        step_rows=[],
        epoch_rows=[epoch_row(2, 20, 0.1)],
        epochs_done=2,
        keep_last=2,
    )
    assert world.job(fence.job_id).best_epoch == 2
    assert roll_back(world, fence) is not None
    job = world.job(fence.job_id)
    assert (job.best_epoch, job.best_val_loss, job.best_checkpoint_id) == (1, 0.5, first)


def test_retention_keeps_an_end_to_go_back_to(world: World) -> None:
    fence = running(world)
    best = world.commit(fence, 10, epoch=1, val_loss=0.1)
    end = world.commit(fence, 20, epoch=2, val_loss=0.4)
    within = [world.commit(fence, step, epoch=3) for step in (22, 24, 26, 28)]
    kept = {key for key, status in world.checkpoints(fence.job_id).items() if status == "committed"}
    assert kept == {best, end, *within[-2:]}


def test_an_end_that_only_a_stop_saved_is_none_to_go_back_to(world: World) -> None:
    fence = running(world, checkpoint_every={"epochs": 2})
    planned = world.commit(fence, 20, epoch=2, val_loss=0.4)
    world.commit(fence, 30, epoch=3, val_loss=0.3)
    within = [world.commit(fence, step, epoch=4) for step in (32, 34, 36)]
    kept = {key for key, status in world.checkpoints(fence.job_id).items() if status == "committed"}
    assert kept >= {planned, *within[-2:]}
    assert roll_back(world, fence) is not None
    assert world.job(fence.job_id).segments[-1]["slowdowns"] == [{"after_step": 20, "factor": 0.5}]


def test_five_times_at_most(world: World) -> None:
    fence: Fence | None = running(world)
    for _ in range(5):
        assert fence is not None
        fence = roll_back(world, fence)
    assert fence is not None and roll_back(world, fence) is None
    assert world.job(fence.job_id).status == "running", "what then happens is up to the worker"


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_whoever_asked_for_a_stop_gets_it_instead(world: World, request_: str, status: str) -> None:
    fence = running(world)
    kept = world.commit(fence, 5)
    getattr(job_store, request_)(world.db, fence.job_id)
    assert asked_to_roll_back(world, fence) == status
    job = world.job(fence.job_id)
    assert (job.status, job.error_code, job.committed_step) == (status, None, 5)
    assert world.attempts(fence.job_id)[0].end_cause == status
    assert world.checkpoints(fence.job_id) == {kept: "committed"}, "nothing was abandoned"


def test_a_stop_counts_more_than_too_many_rollbacks(world: World) -> None:
    fence: Fence | None = running(world)
    for _ in range(5):
        assert fence is not None
        fence = roll_back(world, fence)
    assert fence is not None
    job_store.pause(world.db, fence.job_id)
    assert asked_to_roll_back(world, fence) == JobStatus.PAUSED


def test_too_little_memory_splits_the_batch_for_good(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    fence = world.restart(fence, split_batches=True).fence
    assert world.job(fence.job_id).numerics["micro_batches"] == 2
    fence = world.restart(fence, split_batches=True).fence
    assert world.job(fence.job_id).failures == 0, "something was changed before the next try"
    fence = world.restart(fence).fence
    assert world.job(fence.job_id).numerics["micro_batches"] == 4
    assert world.job(fence.job_id).failures == 1


def test_a_batch_of_single_samples_is_not_split_any_further(world: World) -> None:
    fence = world.running(hyperparameters={"batch_size": 6})
    world.prepare(fence)
    fence = world.restart(fence, split_batches=True).fence
    assert world.job(fence.job_id).numerics["micro_batches"] == 2
    fence = world.restart(fence, split_batches=True).fence
    assert (world.job(fence.job_id).numerics["micro_batches"], world.job(fence.job_id).failures) == (2, 1)
