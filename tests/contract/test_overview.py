"""What is shown around jobs: where they would resume, what survives, and who is there to run them."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from models import job_store
from models.host import Owner
from models.job_state import EndCause
from models.job_store import Overview
from models.tables import workers
from tests.contract.world import World, owner


def overview(world: World) -> Overview:
    rows = job_store.list_jobs(world.db, limit=100)
    return job_store.overview(world.db, rows, silent_after_seconds=30.0)


def test_a_job_resumes_from_its_committed_step(world: World) -> None:
    fresh = world.submit(priority=-1)
    fence = world.running()
    first, second = world.commit(fence, 10), world.commit(fence, 20)
    points = overview(world).resume_points
    assert fresh not in points
    assert (points[fence.job_id].id, points[fence.job_id].step) == (second, 20)
    job_store.reject_checkpoint(world.db, fence, second, "It is gone.")
    assert overview(world).resume_points[fence.job_id].id == first
    job_store.reject_checkpoint(world.db, fence, first, "It is gone, too.")
    assert overview(world).resume_points == {}


def test_seconds_that_survive_are_those_of_the_epochs_in_the_weights(world: World) -> None:
    """An epoch that was done twice counts once."""
    fence = world.running()
    world.prepare(fence)
    for epoch in (1, 2):
        last = world.commit(fence, 10 * epoch, epoch=epoch, val_loss=0.5)
    job_store.reject_checkpoint(world.db, fence, last, "It is gone.")
    fence = world.restart(fence).fence
    world.prepare(fence, step=10)
    world.commit(fence, 20, epoch=2, val_loss=0.5)
    assert overview(world).surviving_seconds == {fence.job_id: 4.0}


def test_nothing_around_nothing(world: World) -> None:
    assert overview(world) == Overview({}, {}, {}, {})


# -- The fleet ---------------------------------------------------------------------------------------


def register(world: World, name: str, device: str = "cpu", who: Owner | None = None) -> None:
    job_store.register_worker(
        world.db, who or owner(name), device=device, slot="cpu:x", threads=2, version="1.0"
    )


def silent(world: World, name: str, seconds: float) -> None:
    with world.db.writing() as tx:
        tx.execute(
            update(workers).where(workers.c.id == name).values(heartbeat=workers.c.heartbeat - seconds)
        )


def names(world: World, **page: Any) -> list[str]:
    return [row.id for row in job_store.list_workers(world.db, **page)]


def test_a_worker_from_its_start_to_its_end(world: World) -> None:
    register(world, "wrk_1")
    [row] = job_store.list_workers(world.db)
    assert (row.status, row.device, row.slot, row.threads, row.job_id) == ("online", "cpu", "cpu:x", 2, None)
    assert 0.0 <= row.heartbeat_age_seconds < 60.0
    assert job_store.worker_beat(world.db, "wrk_1", "job_1")
    assert job_store.list_workers(world.db)[0].job_id == "job_1"
    job_store.worker_stopped(world.db, "wrk_1")
    [row] = job_store.list_workers(world.db)
    assert (row.status, row.job_id) == ("stopped", None)


def test_a_worker_that_was_held_for_lost_is_back_with_its_next_beat(world: World) -> None:
    register(world, "wrk_1")
    world.submit()
    world.claimed(owner("wrk_1"), lease=-1.0)
    world.expire()
    assert job_store.list_workers(world.db)[0].status == "lost"
    assert job_store.worker_beat(world.db, "wrk_1", None)
    assert job_store.list_workers(world.db)[0].status == "online"


def test_a_beat_of_a_worker_that_nobody_knows_says_so(world: World) -> None:
    """It registers again then."""
    assert not job_store.worker_beat(world.db, "wrk_1", None)


def test_registering_again_is_one_worker(world: World) -> None:
    for device in ("cpu", "cuda"):
        register(world, "wrk_1", device)
    [row] = job_store.list_workers(world.db)
    assert row.device == "cuda"


@pytest.mark.parametrize("status", ["online", "stopped", "lost"])
def test_who_was_silent_for_a_day_is_forgotten(world: World, status: str) -> None:
    """Those that died without a word, too; each start of a worker makes a row."""
    for name in ("wrk_1", "wrk_2"):
        register(world, name)
        with world.db.writing() as tx:
            tx.execute(update(workers).where(workers.c.id == name).values(status=status))
    silent(world, "wrk_1", 86_500.0)
    silent(world, "wrk_2", 86_300.0)
    register(world, "wrk_3")
    assert names(world) == ["wrk_2", "wrk_3"]


def test_workers_are_listed_page_by_page(world: World) -> None:
    for number in range(5):
        register(world, f"wrk_{number}")
    assert names(world, limit=2) == ["wrk_0", "wrk_1"]
    assert names(world, after="wrk_1", limit=2) == ["wrk_2", "wrk_3"]


def test_only_workers_that_were_heard_lately_are_online(world: World) -> None:
    world.submit()
    for name, device in (("wrk_1", "cpu"), ("wrk_2", "cpu"), ("wrk_3", "cuda"), ("wrk_4", "cuda")):
        register(world, name, device)
    silent(world, "wrk_2", 31.0)
    job_store.worker_stopped(world.db, "wrk_4")
    assert overview(world).online_workers == {"cpu": 1, "cuda": 1}


@pytest.mark.parametrize("db", ["sqlite"], indirect=True)
def test_workers_of_before_a_reboot_are_not_online_for_ever(world: World) -> None:
    """The clock of heartbeats began anew, so theirs lie in the future; the next worker sweeps them away."""
    world.submit()
    register(world, "wrk_1", who=replace(owner("wrk_1"), boot_id="the-boot-before"))
    silent(world, "wrk_1", -500_000.0)
    register(world, "wrk_2")
    assert names(world) == ["wrk_2"]
    assert overview(world).online_workers == {"cpu": 1}


def test_lists_of_jobs(world: World) -> None:
    made = [world.submit(name=f"n{number % 2}") for number in range(5)]
    fence = world.claimed().fence
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    job_store.pause(world.db, made[3])

    def ids(**wanted: Any) -> list[str]:
        return [row.id for row in job_store.list_jobs(world.db, **wanted)]

    assert ids() == made[::-1]
    assert ids(limit=2, after=made[3]) == [made[2], made[1]]
    assert ids(status="paused") == [made[3]]
    assert ids(name="n0") == [made[4], made[2], made[0]]
    assert ids(name="n1", status="queued") == [made[1]]
    assert ids(tenant_id="other") == []
