"""What background writes, frozen parts, sweeping and the choice of intervals ask of the job store."""

from typing import Any

import pytest

from models import job_store
from models.job_state import EndCause
from models.job_store import Fence
from tests.contract.world import World, epoch_row, position, step_row


def commit(world: World, fence: Fence, checkpoint: dict[str, Any], **more: Any) -> None:
    values: dict[str, Any] = {"step_rows": [], "epoch_rows": [], "epochs_done": 0, "keep_last": 2}
    job_store.commit_checkpoint(world.db, fence, checkpoint, **(values | more))


def frozen(name: str = "f") -> dict[str, Any]:
    return {"frozen_path": f"jobs/x/frozen/{name}.pth", "frozen_sha256": "ef" * 32, "frozen_size_bytes": 77}


# -- A write that ends while training is further already -----------------------------------------------


def test_a_commit_does_not_set_progress_back(world: World) -> None:
    """Else the steps between snapshot and crash would not count as done again."""
    fence = world.running()
    world.prepare(fence)
    job_store.record_progress(world.db, fence, position(30, epochs_done=2))
    world.commit(fence, 10, epoch=1, val_loss=0.5)
    job = world.job(fence.job_id)
    assert (job.step, job.epochs_done, job.committed_step) == (30, 2, 10)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    fence = world.claimed().fence
    world.prepare(fence, step=10)
    assert world.attempts(fence.job_id)[1].steps_redone == 20


def test_rows_of_steps_beyond_the_checkpoint_come_along(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    world.commit(fence, 10, steps=[step_row(n) for n in range(1, 15)])
    assert len(job_store.step_metrics(world.db, fence.job_id, limit=100)) == 14
    assert world.job(fence.job_id).committed_step == 10


# -- Frozen parts --------------------------------------------------------------------------------------


def test_a_frozen_part_is_recorded_with_each_checkpoint_that_needs_it(world: World) -> None:
    fence = world.running()
    checkpoint = world.checkpoint(10) | frozen()
    commit(world, fence, checkpoint)
    row = job_store.get_checkpoint(world.db, fence.job_id, checkpoint["id"])
    assert {name: getattr(row, name) for name in frozen()} == frozen()


@pytest.mark.parametrize("missing", ["frozen_path", "frozen_sha256", "frozen_size_bytes"])
def test_half_a_frozen_part_is_refused(world: World, missing: str) -> None:
    fence = world.running()
    before = world.dump()
    with pytest.raises(Exception, match="frozen_part_whole"):
        commit(world, fence, world.checkpoint(10) | frozen() | {missing: None})
    assert world.dump() == before


def test_files_count_as_recorded_until_they_are_pruned(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    made = [world.checkpoint(step) | frozen("one" if step < 30 else "two") for step in (10, 20, 30)]
    for checkpoint in made:
        commit(world, fence, checkpoint)
    recorded = job_store.recorded_files(world.db, fence)
    kept = {c[name] for c in made[1:] for name in ("path", "frozen_path")}
    assert (recorded.paths, recorded.committed_step) == (kept, 30)
    job_store.reject_checkpoint(world.db, fence, made[2]["id"], "The hash differs.")
    recorded = job_store.recorded_files(world.db, fence)
    assert (recorded.paths, recorded.committed_step) == (kept, 20), (
        "quarantined files are kept to be looked at"
    )


# -- Honesty -------------------------------------------------------------------------------------------


def replayed_epoch(world: World, **changes: Any) -> list[str]:
    """Types of the events after an epoch was committed twice, the second time with these differences."""
    fence = world.running()
    world.prepare(fence)
    first = world.checkpoint(10)
    commit(world, fence, first, epoch_rows=[epoch_row(1, 10, 0.5)], epochs_done=1)
    job_store.reject_checkpoint(world.db, fence, first["id"], "It is gone.")
    fence = world.restart(fence).fence
    world.prepare(fence)
    again = epoch_row(1, 10, 0.5) | changes
    commit(world, fence, world.checkpoint(10), epoch_rows=[again], epochs_done=1)
    [row] = job_store.epoch_metrics(world.db, fence.job_id)
    assert {key: getattr(row, key) for key in again} == again, "the row belongs to the surviving weights"
    told = world.events(fence.job_id)
    assert world.job(fence.job_id).exact == ("determinism.mismatch" not in told)
    return told


@pytest.mark.parametrize("field", ["train_loss", "train_accuracy", "val_loss", "val_accuracy"])
def test_an_epoch_that_comes_out_differently_is_told(world: World, field: str) -> None:
    assert "determinism.mismatch" in replayed_epoch(world, **{field: 0.123})


def test_one_that_comes_out_the_same_at_another_speed_is_not(world: World) -> None:
    events = replayed_epoch(world, images_per_second=3.0, duration_seconds=99.0)
    assert "determinism.mismatch" not in events


def test_each_attempt_says_whether_it_was_exact(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    fence = world.restart(fence).fence
    world.prepare(fence, inexact_reasons=["torch 2.13.0 → 2.14.1"])
    fence = world.restart(fence).fence
    world.prepare(fence)
    rows = world.attempts(fence.job_id)
    assert [row.exact for row in rows] == [True, False, True]
    assert rows[1].inexact_reasons == ["torch 2.13.0 → 2.14.1"]
    job = world.job(fence.job_id)
    assert (job.exact, job.inexact_reasons) == (False, ["torch 2.13.0 → 2.14.1"]), "the job never forgets"


# -- How often things fail -----------------------------------------------------------------------------


def test_without_history_one_failure_in_six_hours_is_assumed(world: World) -> None:
    assert job_store.seconds_between_failures(world.db) == 6 * 3600.0


def test_failures_of_the_fleet_shorten_the_time_between_them(world: World) -> None:
    for number in range(3):
        fence = world.running()
        for _ in range(3):
            fence = world.restart(fence).fence
        found = job_store.seconds_between_failures(world.db)
        assert found == pytest.approx(6 * 3600.0 / (3 * number + 4), rel=1e-2)


def test_orderly_ends_are_no_failures(world: World) -> None:
    fence = world.running()
    for _ in range(3):
        job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
        fence = world.claimed().fence
    assert job_store.seconds_between_failures(world.db) == pytest.approx(6 * 3600.0, rel=1e-2)
