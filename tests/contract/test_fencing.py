"""A worker that lost its lease changes nothing any more, whatever it tries and whenever it thaws (I1)."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from models import job_store
from models.errors import LeaseLost
from models.host import ProcessId
from models.job_state import EndCause, EventType
from models.job_store import Fence
from tests.contract.world import LEASE, WEIGHTS, World, position, step_row

#: Every write of a worker, each under a fence.
WRITES: dict[str, Callable[[World, Fence], Any]] = {
    "renew": lambda world, fence: job_store.renew(world.db, fence, LEASE),
    "trainer_started": lambda world, fence: job_store.trainer_started(world.db, fence, ProcessId(7, 1.0)),
    "dataset_checked": lambda world, fence: job_store.dataset_checked(
        world.db, fence, "m.json", {"classes": [], "num_train": 1, "num_val": 1}
    ),
    "prepared": lambda world, fence: world.prepare(fence, step=3, inexact_reasons=["another CPU"]),
    "first_step": lambda world, fence: job_store.first_step(world.db, fence),
    "record_progress": lambda world, fence: job_store.record_progress(world.db, fence, position(77)),
    "record_metrics": lambda world, fence: job_store.record_metrics(
        world.db, fence, [step_row(10, 9.0), step_row(77)], position(77)
    ),
    "record_event": lambda world, fence: job_store.record_event(
        world.db, fence, "evt_zombie", EventType.PARKED, "Parked."
    ),
    "commit_checkpoint": lambda world, fence: world.commit(fence, 77, epoch=9, val_loss=0.001, keep_last=1),
    "reject_checkpoint": lambda world, fence: job_store.reject_checkpoint(
        world.db, fence, next(iter(world.checkpoints(fence.job_id)), "ckpt_none"), "It is gone."
    ),
    "finish": lambda world, fence: job_store.finish(world.db, fence, "00" * 32),
    "fail": lambda world, fence: job_store.fail(
        world.db, fence, EndCause.TRAINER_ERROR, "dataset_changed", "It differs."
    ),
    "release": lambda world, fence: job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped."),
    "roll_back": lambda world, fence: job_store.roll_back(
        world.db, fence, "NaN.", device="cpu", lease_seconds=15.0
    ),
    "restart_attempt": lambda world, fence: world.restart(fence, step=77),
}


def attempt_1(world: World) -> Fence:
    """A job that has something to lose: metrics, two checkpoints, a best."""
    fence = world.running()
    world.prepare(fence)
    job_store.record_metrics(world.db, fence, [step_row(n) for n in range(1, 11)], position(10))
    world.commit(fence, 5, epoch=1, val_loss=0.5)
    world.commit(fence, 10, epoch=2, val_loss=0.6)
    return fence


def again(world: World, fence: Fence) -> Fence:
    world.lose(fence.job_id)
    after = world.claimed().fence
    assert after == Fence(fence.job_id, fence.attempt + 1)
    return after


#: What may have become of the job meanwhile.
MEANWHILE: dict[str, Callable[[World, Fence], Any]] = {
    "expired": lambda world, fence: world.lose(fence.job_id),
    "released": lambda world, fence: job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped."),
    "taken over": again,
    "restarted": lambda world, fence: world.restart(fence),
    "paused": lambda world, fence: (job_store.pause(world.db, fence.job_id), world.lose(fence.job_id)),
    "cancelled": lambda world, fence: (job_store.cancel(world.db, fence.job_id), world.lose(fence.job_id)),
    "finished by the next": lambda world, fence: job_store.finish(world.db, again(world, fence), WEIGHTS),
    "failed by the next": lambda world, fence: job_store.fail(
        world.db, again(world, fence), EndCause.TRAINER_ERROR, "dataset_invalid", "Empty."
    ),
    "failed and retried": lambda world, fence: (
        job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "dataset_invalid", "Empty."),
        job_store.retry(world.db, fence.job_id),
    ),
}


def test_every_write_of_a_worker_is_in_this_list() -> None:
    fenced = {
        name
        for name in job_store.__all__
        if inspect.isfunction(member := getattr(job_store, name))
        and "fence" in inspect.signature(member).parameters
    }
    tested_apart = {"recorded_files", "carry_out_drill", "choose_checkpoint_to_damage"}
    assert fenced == set(WRITES) | tested_apart


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_may(world: World, write: str) -> None:
    """Else the tests below would prove nothing."""
    fence = attempt_1(world)
    before = world.dump()
    WRITES[write](world, fence)
    assert world.dump() != before


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_stale_holder_may_nothing(world: World, meanwhile: str) -> None:
    fence = attempt_1(world)
    MEANWHILE[meanwhile](world, fence)
    before = world.dump()
    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            write(world, fence)
        assert world.dump() == before, write
    with pytest.raises(LeaseLost):  # whoever lost the job has no business with its files
        job_store.recorded_files(world.db, fence)


@pytest.mark.parametrize("attempt", [0, 2, 99, -1])
def test_nor_who_makes_an_attempt_up(world: World, attempt: int) -> None:
    fence = attempt_1(world)
    before = world.dump()
    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            write(world, Fence(fence.job_id, attempt))
        assert world.dump() == before, write


def test_nor_for_a_job_that_is_not_there(world: World) -> None:
    attempt_1(world)
    before = world.dump()
    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            write(world, Fence("job_none", 1))
    assert world.dump() == before


def test_a_zombie_beside_its_successor(world: World) -> None:
    """Both go on as if they held the job; what is there in the end is the successor's alone."""
    zombie = attempt_1(world)
    holder = again(world, zombie)
    world.prepare(holder, step=10)
    refused = 0
    for step in range(11, 31):
        rows = [step_row(step, float(step))]
        job_store.record_metrics(world.db, holder, rows, position(step))
        for write in (
            lambda s=step: job_store.record_metrics(world.db, zombie, [step_row(s, -1.0)], position(s)),
            lambda s=step: world.commit(zombie, s + 100),
            lambda: job_store.renew(world.db, zombie, LEASE),
        ):
            with pytest.raises(LeaseLost):
                write()
            refused += 1
        if step % 5 == 0:
            world.commit(holder, step)
    assert refused == 60
    rows = job_store.step_metrics(world.db, holder.job_id, after=10)
    assert [(row.step, row.loss, row.attempt) for row in rows] == [(n, float(n), 2) for n in range(11, 31)]
    assert world.job(holder.job_id).committed_step == 30
