"""Which epoch of a job is its best, and which checkpoint holds it, whatever was done again."""

from typing import Any

import pytest

from models import job_store
from models.errors import NotFound
from models.job_store import Fence
from tests.contract.world import World, epoch_row


def commit(world: World, fence: Fence, checkpoint: dict[str, Any], **more: Any) -> Any:
    values: dict[str, Any] = {"step_rows": [], "epoch_rows": [], "epochs_done": 0, "keep_last": 2}
    return job_store.commit_checkpoint(world.db, fence, checkpoint, **(values | more))


def best(world: World, fence: Fence) -> tuple[int, float, str]:
    job = world.job(fence.job_id)
    return job.best_epoch, job.best_val_loss, job.best_checkpoint_id


def test_the_best_is_the_lowest_validation_loss_and_of_equals_the_earlier(world: World) -> None:
    fence = world.running()
    losses = [0.9, 0.4, 0.4, 0.6, 0.3]
    made = [world.commit(fence, 10 * n, epoch=n, val_loss=loss) for n, loss in enumerate(losses[:4], start=1)]
    assert best(world, fence) == (2, 0.4, made[1])
    assert job_store.get_checkpoint(world.db, fence.job_id, "best").id == made[1]
    fifth = world.commit(fence, 50, epoch=5, val_loss=losses[4])
    assert best(world, fence) == (5, 0.3, fifth)


def test_an_epoch_without_a_finite_validation_loss_is_never_the_best(world: World) -> None:
    fence = world.running()
    commit(world, fence, world.checkpoint(10), epoch_rows=[epoch_row(1, 10, None)], epochs_done=1)
    assert world.job(fence.job_id).best_epoch is None
    second = world.commit(fence, 20, epoch=2, val_loss=3.0)
    assert best(world, fence) == (2, 3.0, second)


def test_a_replay_of_the_best_epoch_brings_its_new_checkpoint(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    first = world.commit(fence, 10, epoch=1, val_loss=0.3)
    job_store.reject_checkpoint(world.db, fence, first, "The hash differs.")
    fence = world.restart(fence).fence
    world.prepare(fence)
    again = world.commit(fence, 10, epoch=1, val_loss=0.3)
    assert best(world, fence) == (1, 0.3, again)


@pytest.mark.parametrize(("again", "expected"), [(0.9, 1), (0.35, 2)])
def test_a_replay_of_the_best_epoch_that_comes_out_worse_is_ranked_anew(
    world: World, again: float, expected: int
) -> None:
    """On another CPU, say. What it was the first time is in no row any more, so it cannot be the best."""
    fence = world.running()
    world.prepare(fence)
    first = world.commit(fence, 10, epoch=1, val_loss=0.4)
    second = world.commit(fence, 20, epoch=2, val_loss=0.3)
    job_store.reject_checkpoint(world.db, fence, second, "The hash differs.")
    fence = world.restart(fence).fence
    world.prepare(fence, step=10, from_checkpoint=first, inexact_reasons=["another CPU"])
    replayed = world.commit(fence, 20, epoch=2, val_loss=again)
    assert best(world, fence) == ((1, 0.4, first) if expected == 1 else (2, again, replayed))


def test_the_best_of_several_epochs_under_one_checkpoint(world: World) -> None:
    """Checkpoints every second epoch: the better first one has no file of its own."""
    fence = world.running()
    rows = [epoch_row(1, 10, 0.2), epoch_row(2, 20, 0.3)]
    commit(world, fence, world.checkpoint(20, epoch=2), epoch_rows=rows, epochs_done=2)
    assert best(world, fence) == (1, 0.2, None)
    with pytest.raises(NotFound):
        job_store.get_checkpoint(world.db, fence.job_id, "best")
