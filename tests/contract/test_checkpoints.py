"""The row is the commit: what it seals, what is progress, and what retention may let go (I2, I6, I8)."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from models import job_store
from models.errors import ContentGone, LeaseLost, NotFound
from models.job_state import EndCause
from models.job_store import Fence
from tests.contract.world import World, epoch_row, position, step_row


def commit(world: World, fence: Fence, checkpoint: dict[str, Any], **more: Any) -> Any:
    values: dict[str, Any] = {"step_rows": [], "epoch_rows": [], "epochs_done": 0, "keep_last": 2}
    return job_store.commit_checkpoint(world.db, fence, checkpoint, **(values | more))


def test_a_commit_records_the_file_and_seals_its_metrics(world: World) -> None:
    fence = world.running()
    checkpoint = world.checkpoint(10, epoch=1, val_loss=0.25)
    answer = commit(
        world, fence, checkpoint,
        step_rows=[step_row(9), step_row(10)], epoch_rows=[epoch_row(1, 10, 0.25)], epochs_done=1,
    )  # fmt: skip
    assert answer.pruned_paths == []
    row = job_store.get_checkpoint(world.db, fence.job_id, checkpoint["id"])
    assert {key: getattr(row, key) for key in checkpoint} == checkpoint
    assert (row.attempt, row.status) == (1, "committed")
    job = world.job(fence.job_id)
    assert (job.step, job.committed_step, job.highest_committed_step, job.epochs_done) == (10, 10, 10, 1)
    assert [row.step for row in job_store.step_metrics(world.db, fence.job_id)] == [9, 10]
    [epoch] = job_store.epoch_metrics(world.db, fence.job_id)
    assert {key: getattr(epoch, key) for key in epoch_row(1, 10, 0.25)} == epoch_row(1, 10, 0.25)
    assert world.event(fence.job_id, "checkpoint.committed").data == {
        "checkpoint_id": checkpoint["id"], "epoch": 1, "step": 10, "stall_seconds": 0.0, "write_seconds": 0.0,
    }  # fmt: skip


def test_a_commit_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    checkpoint = world.checkpoint(10, val_loss=0.5)
    rows = {"step_rows": [step_row(10)], "epoch_rows": [epoch_row(1, 10)], "epochs_done": 1}
    commit(world, fence, checkpoint, **rows)
    job_store.cancel(world.db, fence.job_id)
    before = world.dump()
    answer = commit(world, fence, checkpoint, **rows)
    assert answer.requests.cancel, "requests are heard all the same"
    assert world.dump() == before


def test_a_commit_that_fails_leaves_nothing(world: World) -> None:
    """Two rows for one file: the second transaction is undone with all that it sealed."""
    fence = world.running()
    first = world.checkpoint(10)
    commit(world, fence, first)
    before = world.dump()
    with pytest.raises(IntegrityError):
        commit(world, fence, world.checkpoint(20) | {"path": first["path"]}, step_rows=[step_row(20)])
    assert world.dump() == before


def test_progress_fills_both_budgets_up(world: World) -> None:
    fence = world.running()
    fence = world.restart(fence).fence
    world.lose(fence.job_id)
    fence = world.claimed().fence
    assert (world.job(fence.job_id).failures, world.job(fence.job_id).losses) == (1, 1)
    world.commit(fence, 1)
    assert (world.job(fence.job_id).failures, world.job(fence.job_id).losses) == (0, 0)


def test_a_commit_no_further_than_ever_is_no_progress(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    first = world.commit(fence, 10)
    second = world.commit(fence, 20)
    job_store.reject_checkpoint(world.db, fence, second, "The file is gone.")
    fence = world.restart(fence).fence
    world.prepare(fence, step=10, from_checkpoint=first)
    for step in (15, 20):
        world.commit(fence, step)
        assert world.job(fence.job_id).failures == 1, step
    world.commit(fence, 21)
    assert world.job(fence.job_id).failures == 0


# -- Retention ---------------------------------------------------------------------------------------


def kept(world: World, fence: Fence) -> set[str]:
    return {key for key, status in world.checkpoints(fence.job_id).items() if status == "committed"}


def test_retention_keeps_the_last_two_and_the_best(world: World) -> None:
    fence = world.running()
    losses = [0.5, 0.1, 0.4, 0.3, 0.2]
    made = []
    for number, loss in enumerate(losses, start=1):
        made.append(world.commit(fence, 10 * number, epoch=number, val_loss=loss))
        assert set(made[-2:]) <= kept(world, fence), "the last two stay"
        assert world.job(fence.job_id).best_checkpoint_id in kept(world, fence), "the best stays"
    assert kept(world, fence) == {made[1], made[3], made[4]}
    assert set(world.checkpoints(fence.job_id)) == set(made), "rows are marked, never deleted"


def test_only_the_files_of_marked_rows_may_be_unlinked_and_each_is_told_once(world: World) -> None:
    fence = world.running()
    made, pruned = {}, []
    for number in range(1, 7):
        checkpoint = world.checkpoint(10 * number)
        made[checkpoint["path"]] = checkpoint["id"]
        pruned += commit(world, fence, checkpoint).pruned_paths
        statuses = world.checkpoints(fence.job_id)
        assert {statuses[made[path]] for path in pruned} <= {"pruned"}
    assert pruned == list(made)[:4]
    with pytest.raises(ContentGone):
        job_store.get_checkpoint(world.db, fence.job_id, made[pruned[0]])


@pytest.mark.parametrize("keep_last", [1, 2, 3, 10])
def test_as_many_as_asked_for(world: World, keep_last: int) -> None:
    fence = world.running()
    made = [world.commit(fence, 10 * n, keep_last=keep_last) for n in range(1, 6)]
    assert kept(world, fence) == set(made[-keep_last:])


def test_a_best_that_is_beaten_is_let_go(world: World) -> None:
    fence = world.running()
    losses = [0.5, 0.1, 0.4, 0.3, 0.05, 0.6, 0.7]
    made = []
    for number, loss in enumerate(losses, start=1):
        made.append(world.commit(fence, 10 * number, epoch=number, val_loss=loss))
        assert kept(world, fence) == {*made[-2:], world.job(fence.job_id).best_checkpoint_id}
    assert kept(world, fence) == {made[4], made[5], made[6]}


def test_a_quarantined_checkpoint_takes_no_place_in_the_last_two(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    made = [world.commit(fence, step, keep_last=3) for step in (10, 20, 30)]
    job_store.reject_checkpoint(world.db, fence, made[2], "The hash differs.")
    fence = world.restart(fence).fence
    world.prepare(fence, step=20, from_checkpoint=made[1])
    again = world.commit(fence, 30)
    assert kept(world, fence) == {made[1], again}
    assert world.checkpoints(fence.job_id)[made[2]] == "quarantined"


def test_pruning_never_comes_before_its_commit(world: World) -> None:
    """A commit that is undone lets nothing go."""
    fence = world.running()
    first, second = world.commit(fence, 10), world.commit(fence, 20)
    double = world.checkpoint(30) | {"path": job_store.get_checkpoint(world.db, fence.job_id, first).path}
    with pytest.raises(IntegrityError):
        commit(world, fence, double, keep_last=1)
    assert kept(world, fence) == {first, second}


# -- Quarantine --------------------------------------------------------------------------------------


def test_the_committed_step_falls_to_the_one_before(world: World) -> None:
    fence = world.running()
    first, second = world.commit(fence, 10), world.commit(fence, 20)
    for identifier, committed in ((second, 10), (first, 0)):
        job_store.reject_checkpoint(world.db, fence, identifier, "It reads back differently.")
        job = world.job(fence.job_id)
        assert (job.committed_step, job.highest_committed_step) == (committed, 20)
        assert world.checkpoints(fence.job_id)[identifier] == "quarantined"
    told = [e for e in job_store.job_events(world.db, fence.job_id) if e.type == "checkpoint.quarantined"]
    assert [event.data["committed_step"] for event in told] == [10, 0]
    with pytest.raises(NotFound):
        job_store.get_checkpoint(world.db, fence.job_id, "last")
    with pytest.raises(ContentGone):
        job_store.get_checkpoint(world.db, fence.job_id, first)


def test_a_rejection_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    identifier = world.commit(fence, 10)
    job_store.reject_checkpoint(world.db, fence, identifier, "It is gone.")
    before = world.dump()
    job_store.reject_checkpoint(world.db, fence, identifier, "It is gone.")
    assert world.dump() == before


def test_a_checkpoint_of_another_job_is_not_touched(world: World) -> None:
    mine = world.running()
    theirs = world.running()
    identifier = world.commit(theirs, 10)
    job_store.reject_checkpoint(world.db, mine, identifier, "It is gone.")
    assert world.checkpoints(theirs.job_id) == {identifier: "committed"}
    assert world.job(theirs.job_id).committed_step == 10


# -- Lists -------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_newest_first_page_by_page(world: World) -> None:
    fence = world.running()
    made = [world.commit(fence, 10 * n) for n in range(1, 6)]
    first = job_store.job_checkpoints(world.db, fence.job_id, limit=2)
    rest = job_store.job_checkpoints(world.db, fence.job_id, after=first[-1].id, limit=10)
    assert [row.id for row in [*first, *rest]] == made[::-1]
    with pytest.raises(NotFound):
        job_store.job_checkpoints(world.db, fence.job_id, after="ckpt_none")


def test_last_is_the_newest_that_is_usable(world: World) -> None:
    fence = world.running()
    first, second = world.commit(fence, 10), world.commit(fence, 20)
    assert job_store.get_checkpoint(world.db, fence.job_id, "last").id == second
    job_store.reject_checkpoint(world.db, fence, second, "It is gone.")
    assert job_store.get_checkpoint(world.db, fence.job_id, "last").id == first


def test_metrics_beyond_the_commit_are_provisional_and_replaced(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    world.commit(fence, 5, steps=[step_row(n) for n in range(1, 6)])
    job_store.record_metrics(world.db, fence, [step_row(n) for n in range(6, 9)], position(8))
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    fence = world.claimed().fence
    world.prepare(fence, step=5, from_checkpoint="ckpt_1")
    assert world.attempts(fence.job_id)[1].steps_redone == 3
    world.commit(fence, 10, steps=[step_row(n) for n in range(6, 11)])
    rows = job_store.step_metrics(world.db, fence.job_id)
    assert [(row.step, row.attempt) for row in rows] == [(n, 1 if n <= 5 else 2) for n in range(1, 11)]


def test_a_stale_holder_commits_nothing(world: World) -> None:
    fence = world.running()
    world.lose(fence.job_id)
    with pytest.raises(LeaseLost):
        world.commit(fence, 10)
    assert world.checkpoints(fence.job_id) == {}
