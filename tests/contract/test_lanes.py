"""Who is next: priority with the hours of waiting, then the tenant with the fewest running jobs, then age."""

import random
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from models import job_store
from models.job_state import EndCause
from models.job_store.fence import JobRow
from models.job_store.lanes import lanes
from models.tables import jobs, workers
from tests.contract.world import World, at_once, owner

_HOUR = timedelta(hours=1)


def tenant_of(world: World, **claim: Any) -> str:
    claimed = world.claim(**claim)
    assert claimed is not None
    return str(claimed.job.tenant_id)


def looked(tx: Connection, world: World, device: str) -> list[JobRow]:
    given = {"device": device, **world.db.clock_values()}
    return list(tx.execute(lanes(world.db.is_sqlite), given))


def pass_hours(world: World, hours: float) -> None:
    """For whoever waits, and for what was served before."""
    with world.db.writing() as tx:
        for row in tx.execute(select(jobs.c.id, jobs.c.queued_at, jobs.c.served_at)).all():
            ago = {
                name: value - hours * _HOUR
                for name in ("queued_at", "served_at")
                if (value := getattr(row, name)) is not None
            }
            tx.execute(update(jobs).where(jobs.c.id == row.id).values(**ago))


def test_a_tenant_with_a_long_queue_delays_nobody_elses_first_job(world: World) -> None:
    for _ in range(20):
        world.submit_for("many")
    world.submit_for("few")
    assert [tenant_of(world) for _ in range(4)] == ["many", "few", "many", "many"]


def test_tenants_take_turns_by_what_they_have_running(world: World) -> None:
    for tenant in ("a", "b", "c"):
        for _ in range(6):
            world.submit_for(tenant)
    assert Counter(tenant_of(world) for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


def test_a_tenant_whose_job_has_ended_is_next_again(world: World) -> None:
    for tenant in ("a", "a", "b", "b"):
        world.submit_for(tenant)
    first, second = world.claimed(), world.claimed()
    assert (first.job.tenant_id, second.job.tenant_id) == ("a", "b")
    job_store.fail(world.db, second.fence, EndCause.TRAINER_ERROR, "dataset_invalid", "No images.")
    assert tenant_of(world) == "b"


def test_priority_comes_before_the_share(world: World) -> None:
    world.submit_for("few")
    urgent = [world.submit_for("many", priority=1) for _ in range(3)]
    assert [world.claimed().fence.job_id for _ in range(3)] == urgent
    assert tenant_of(world) == "few"


def test_jobs_of_every_lane_count_as_running(world: World) -> None:
    """Whoever spreads jobs over priorities and devices has no larger share."""
    for parts in ({"priority": 1}, {}, {"resources": {"device": "cpu"}}, {"resources": {"device": "cuda"}}):
        world.submit_for("spread", **parts)
    world.submit_for("plain")
    world.submit_for("plain")
    assert tenant_of(world) == "spread", "the higher priority"
    assert [tenant_of(world) for _ in range(2)] == ["plain", "spread"]


def test_an_hour_without_anything_is_a_point_of_priority(world: World) -> None:
    low = world.submit_for("low", priority=0)
    pass_hours(world, 2.01)
    high = [world.submit_for("high", priority=2) for _ in range(3)]
    first = world.claimed().fence.job_id
    assert first == low, "two points, and it is the older one"
    assert world.claimed().fence.job_id == high[0]


def test_an_hour_less_is_not_enough(world: World) -> None:
    low = world.submit_for("low", priority=0)
    pass_hours(world, 1.99)
    high = world.submit_for("high", priority=2)
    assert [world.claimed().fence.job_id for _ in range(2)] == [high, low]


def test_a_lane_that_is_served_begins_to_wait_anew(world: World) -> None:
    """So that a queue of old jobs does not outrank a new tenant's for as long as it lasts."""
    for _ in range(4):
        world.submit_for("old")
    pass_hours(world, 10.0)
    world.submit_for("new", priority=5)
    world.submit_for("new")
    assert [tenant_of(world) for _ in range(4)] == ["old", "new", "old", "new"]


def test_nothing_starves_behind_endless_work_of_higher_priority(world: World) -> None:
    low = world.submit_for("low", priority=-2)
    for hours in range(1, 9):
        world.submit_for("high", priority=3)
        claim = world.claimed()
        if claim.fence.job_id == low:
            assert hours - 1 == 5, "five points higher, five hours"
            return
        pass_hours(world, 1.001)
    pytest.fail("it starves")


def test_a_restart_on_the_spot_is_nothing_that_a_lane_got(world: World) -> None:
    fence = world.running()
    world.submit()
    pass_hours(world, 3.0)
    world.restart(fence)
    with world.db.reading() as tx:
        [lane] = looked(tx, world, "cpu")
    assert (lane.level, lane.num_running) == (3, 1)


def test_lanes_of_another_device_are_no_concern(world: World) -> None:
    for number in range(30):
        world.submit_for(f"t{number % 3}", resources={"device": "cuda"}, priority=number % 5)
    mine = world.submit_for("t0", resources={"device": "cpu"}, priority=-5)
    with world.db.reading() as tx:
        assert [lane.front for lane in looked(tx, world, "cpu")] == [mine]
        assert len(looked(tx, world, "cuda")) == 15
    assert world.claimed().fence.job_id == mine
    assert world.claim() is None


def test_the_front_of_a_lane_may_not_fit(world: World) -> None:
    """It waits for equal numerics, or this worker leaves it to others; the one behind it is claimed."""
    fence = world.running(fault_tolerance={"exact_wait_seconds": 300})
    world.prepare(fence)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    second, third = world.submit(), world.submit()
    claim = job_store.claim(world.db, owner(), "cpu", "cpu:another", 15.0, not_now=[second])
    assert claim is not None and claim.fence.job_id == third
    assert world.claimed().fence.job_id == fence.job_id


def test_workers_that_claim_at_once_empty_every_lane(world: World) -> None:
    """Whoever finds a front taken goes on to the next job, and behind the last to the next lane."""
    made = {world.submit_for(f"t{number % 4}", priority=number % 2) for number in range(12)}
    answers = at_once(*[lambda n=n: world.claim(owner(f"wrk_{n}")) for n in range(12)])
    taken = [answer.fence.job_id for answer in answers if answer is not None]  # type: ignore[union-attr]
    assert len(taken) == len(set(taken)) == 12 and set(taken) == made


def test_places_are_the_order_of_claims_whatever_the_mixture(world: World) -> None:
    """Claims at random, then time, then the rest: each place is the truth at its moment."""
    for seed in range(6):
        dice = random.Random(seed)
        for _ in range(18):
            device = dice.choice(["auto", "cpu", "cpu", "cuda"])
            world.submit_for(
                dice.choice("aab"), priority=dice.choice([0, 0, 3]), resources={"device": device}
            )
            if dice.random() < 0.2:
                pass_hours(world, dice.choice([0.5, 1.5, 4.0]))
            if dice.random() < 0.2:
                world.claim()
        rows = job_store.list_jobs(world.db, tenant_id="a", limit=1000)
        rows += job_store.list_jobs(world.db, tenant_id="b", limit=1000)
        register(world, "cpu")
        places = job_store.overview(world.db, rows, silent_after_seconds=30.0).queue_positions
        order = []
        while (claim := world.claim()) is not None:
            order.append(claim.fence.job_id)
        of_cpu = {job.id for job in rows if job.device_class != "cuda"}
        assert [places[job_id] for job_id in order] == list(range(1, len(order) + 1)), seed
        assert {job_id for job_id in places if job_id in of_cpu} == set(order)
        for row in rows:
            if world.job(row.id).status == "queued":  # for a GPU
                job_store.pause(world.db, row.id)
        with world.db.writing() as tx:
            tx.execute(workers.delete())


def register(world: World, device: str) -> None:
    job_store.register_worker(world.db, owner("wrk_9"), device=device, slot="cpu:x", threads=2, version="1.0")


def test_a_place_is_among_the_jobs_of_the_same_workers(world: World) -> None:
    for _ in range(3):
        world.submit(resources={"device": "cuda"})
    mine = world.submit(resources={"device": "cpu"})
    rows = job_store.list_jobs(world.db)
    assert job_store.overview(world.db, rows, silent_after_seconds=30.0).queue_positions[mine] == 1


@pytest.mark.parametrize("priorities", [[0], [0, 7]], ids=["one lane", "lanes"])
def test_very_distant_places_are_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, priorities: list[int]
) -> None:
    monkeypatch.setattr("models.job_store.queue_places.COUNTED_PLACES", 5)
    monkeypatch.setattr("models.job_store.queue_places._FIRST_ROWS", 1)
    monkeypatch.setattr("models.job_store.queue_places._MORE_ROWS", 2)
    made = [world.submit(priority=priority) for priority in reversed(priorities) for _ in range(8)]
    rows = job_store.list_jobs(world.db)
    positions = job_store.overview(world.db, rows, silent_after_seconds=30.0).queue_positions
    assert positions == {job_id: place for place, job_id in enumerate(made[:5], start=1)}


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
def test_claims_walk_through_no_queue(world: World) -> None:
    """Every look that is made for each lane goes by an index, also where others' lanes are long."""
    made = world.submit(resources={"device": "cuda"})
    columns = ", ".join(column.name for column in jobs.c)
    copied = columns.replace("id,", "'job_' || n,", 1).replace("tenant_id", "'t' || mod(n, 7)", 1)
    statement = lanes(world.db.is_sqlite).params(device="cpu")
    written = str(statement.compile(world.db.engine, compile_kwargs={"literal_binds": True}))
    with world.db.writing() as tx:
        tx.exec_driver_sql(
            f"INSERT INTO jobs ({columns}) SELECT {copied} FROM jobs, generate_series(1, 5000) n"
        )
        tx.exec_driver_sql("ANALYZE jobs")
        plan = "\n".join(tx.exec_driver_sql(f"EXPLAIN {written}").scalars())
        tx.execute(jobs.delete().where(jobs.c.id != made))  # they have no trail
    looks = {
        "first": "ix_jobs_claimable", "after": "ix_jobs_claimable", "waiting": "ix_jobs_claimable",
        "served": "ix_jobs_served", "running": "ix_jobs_running",
    }  # fmt: skip
    for look, index in looks.items():
        assert re.search(rf"{index} on jobs {look}\b", plan), (look, plan)
