"""Which workers may claim: drained, enabled, quarantined, and never all of them out of service."""

from typing import Any

import pytest
from sqlalchemy import update

from models import job_store
from models.errors import NotFound
from models.job_store.restarts import Restarted
from models.tables import workers
from tests.contract.world import World, at_once, owner


def register(world: World, *names: str, device: str = "cpu") -> None:
    for name in names:
        job_store.register_worker(world.db, owner(name), device=device, slot="s", threads=2, version="1")


def statuses(world: World) -> dict[str, str]:
    return {row.id: row.status for row in job_store.list_workers(world.db)}


def quarantine(world: World, name: str, device: str = "cpu") -> bool:
    return job_store.quarantine_worker(world.db, name, device, "It fails.", silent_after_seconds=30.0)


def test_a_drain_is_seen_at_once_and_outlives_beats(world: World) -> None:
    register(world, "wrk_1")
    for _ in range(2):
        row: Any = job_store.drain_worker(world.db, "wrk_1")
        assert row.status == "draining" and row.heartbeat_age_seconds < 30.0
        assert job_store.worker_beat(world.db, "wrk_1", None) == "draining"
    for _ in range(2):
        assert job_store.enable_worker(world.db, "wrk_1").status == "online"
        assert job_store.worker_beat(world.db, "wrk_1", None) == "online"


def test_a_drain_outlives_a_time_of_being_held_for_lost(world: World) -> None:
    register(world, "wrk_1")
    job_store.drain_worker(world.db, "wrk_1")
    world.submit()
    world.lose(world.claimed(owner("wrk_1")).fence.job_id)
    assert statuses(world) == {"wrk_1": "lost"}
    assert job_store.worker_beat(world.db, "wrk_1", None) == "draining"


def test_what_ended_stays_as_it_is(world: World) -> None:
    register(world, "wrk_1")
    job_store.worker_stopped(world.db, "wrk_1")
    assert job_store.drain_worker(world.db, "wrk_1").status == "stopped"
    assert job_store.enable_worker(world.db, "wrk_1").status == "stopped"


def test_a_worker_that_is_not_there(world: World) -> None:
    for ask in (job_store.drain_worker, job_store.enable_worker):
        with pytest.raises(NotFound):
            ask(world.db, "wrk_none")
    assert job_store.worker_beat(world.db, "wrk_none", None) is None
    assert not quarantine(world, "wrk_none")


def test_a_quarantine_lasts_until_the_worker_is_enabled(world: World) -> None:
    register(world, "wrk_1", "wrk_2")
    assert quarantine(world, "wrk_1")
    assert job_store.worker_beat(world.db, "wrk_1", None) == "quarantined"
    job_store.drain_worker(world.db, "wrk_1")
    assert statuses(world) == {"wrk_1": "quarantined", "wrk_2": "online"}
    enabled: Any = job_store.enable_worker(world.db, "wrk_1")
    assert (enabled.status, enabled.quarantine_reason, enabled.drain_requested) == ("online", None, False)


def test_the_last_worker_of_a_device_goes_on(world: World) -> None:
    register(world, "wrk_1", "wrk_2", "wrk_3", "wrk_4")
    register(world, "wrk_gpu", device="cuda")
    job_store.drain_worker(world.db, "wrk_2")
    job_store.worker_stopped(world.db, "wrk_3")
    with world.db.writing() as tx:
        tx.execute(
            update(workers).where(workers.c.id == "wrk_4").values(heartbeat=workers.c.heartbeat - 31.0)
        )
    before = world.dump()
    assert not quarantine(world, "wrk_1")
    assert not quarantine(world, "wrk_gpu", "cuda")
    assert world.dump() == before
    job_store.enable_worker(world.db, "wrk_2")
    assert quarantine(world, "wrk_1")


@pytest.mark.parametrize("round_", range(5))
def test_of_all_that_give_up_at_once_one_is_left(world: World, round_: int) -> None:
    names = [f"wrk_{number}" for number in range(5)]
    register(world, *names)
    answers = at_once(*[lambda name=name: quarantine(world, name) for name in names])  # type: ignore[misc]
    assert sorted(map(str, answers)) == ["False", *["True"] * 4]
    assert sorted(statuses(world).values()) == ["online", *["quarantined"] * 4]


# -- Jobs that are left to others --------------------------------------------------------------------


def test_a_claim_leaves_some_jobs_to_others(world: World) -> None:
    first, second = world.submit(), world.submit()
    claim = job_store.claim(world.db, owner(), "cpu", "s", 15.0, not_now=[first])
    assert claim is not None and claim.job.id == second
    assert job_store.claim(world.db, owner(), "cpu", "s", 15.0, not_now=[first]) is None
    other = job_store.claim(world.db, owner("wrk_2"), "cpu", "s", 15.0)
    assert other is not None and other.job.id == first


def test_a_job_that_is_not_tried_again_on_the_spot_has_failed_all_the_same(world: World) -> None:
    fence = world.running(fault_tolerance={"max_failures": 3})
    after = world.restart(fence)
    assert isinstance(after, Restarted)
    assert world.restart(after.fence, on_the_spot=False) == "queued"
    job = world.job(fence.job_id)
    assert (job.status, job.failures, job.recoveries, job.worker_id) == ("queued", 2, 2, None)
    assert [line.end_cause for line in world.attempts(job.id)] == ["trainer_killed", "trainer_killed"]
    assert world.events(job.id)[-1] == "released"
    assert world.restart(world.claimed().fence, on_the_spot=False) == "failed"


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_requests_come_before_that(world: World, request_: str, status: str) -> None:
    fence = world.running()
    getattr(job_store, request_)(world.db, fence.job_id)
    assert world.restart(fence, on_the_spot=False) == status
