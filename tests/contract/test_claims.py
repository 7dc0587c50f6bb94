"""The claim decides who works on what: once, in order, for devices and numerics that fit."""

import itertools
import random
import threading

import pytest
from sqlalchemy import select, update

from models import job_store
from models.errors import LeaseLost
from models.host import ProcessId
from models.job_store import Claim
from models.tables import jobs
from tests.contract.world import LEASE, SLOT, World, at_once, owner


def test_nothing_waits(world: World) -> None:
    assert world.claim() is None


def test_a_claim_is_a_lease_an_attempt_and_a_line_in_the_ledger(world: World) -> None:
    job_id = world.submit()
    with world.db.reading() as tx:
        before = tx.execute(select(world.db.lease_now())).scalar_one()
    claim = world.claimed(owner("wrk_7"))
    job = world.job(job_id)
    assert claim.fence == job_store.Fence(job_id, 1)
    assert (job.status, job.attempt, job.worker_id) == ("running", 1, "wrk_7")
    assert (job.owner_host, job.owner_pid, job.owner_started_at) == ("elsewhere", 4242, 17.5)
    assert before + LEASE <= job.lease_expires_at <= before + LEASE + 60
    assert job.first_claimed_at is not None and job.claimed_at is not None
    [line] = world.attempts(job_id)
    assert (line.attempt, line.worker_id, line.worker_pid, line.host, line.device) == (
        1, "wrk_7", 4242, "elsewhere", "cpu",
    )  # fmt: skip
    assert world.events(job_id) == ["created", "claimed"]


def test_highest_priority_then_oldest(world: World) -> None:
    priorities = [0, 5, -1, 5, 0, 100, -100]
    made = [world.submit(priority=priority) for priority in priorities]
    expected = [made[i] for i in sorted(range(len(made)), key=lambda i: (-priorities[i], i))]
    assert [world.claimed().fence.job_id for _ in made] == expected
    assert world.claim() is None


@pytest.mark.parametrize(
    ("wanted", "device", "fits"),
    [("auto", "cpu", True), ("auto", "cuda", True), ("cpu", "cpu", True), ("cuda", "cuda", True),
     ("cpu", "cuda", False), ("cuda", "cpu", False)],
)  # fmt: skip
def test_only_a_worker_of_the_jobs_device_class(world: World, wanted: str, device: str, fits: bool) -> None:
    world.submit(resources={"device": wanted})
    assert (world.claim(device=device) is not None) == fits


def test_a_job_that_does_not_fit_holds_up_nobody(world: World) -> None:
    world.submit(resources={"device": "cuda"}, priority=100)
    fits = world.submit()
    assert world.claimed().fence.job_id == fits


def with_numerics(world: World, *, exact_wait_seconds: int) -> str:
    """A job that began on a CPU of SLOT's kind and waits for its next attempt."""
    fence = world.running(fault_tolerance={"exact_wait_seconds": exact_wait_seconds})
    world.prepare(fence)
    job_store.release(world.db, fence, job_store.endings.EndCause.PREEMPTED, "Asked to stop.")
    assert world.job(fence.job_id).numerics_slot == SLOT
    return fence.job_id


def test_a_job_waits_for_a_worker_of_equal_numerics(world: World) -> None:
    job_id = with_numerics(world, exact_wait_seconds=300)
    assert world.claim(slot="cpu:another") is None
    claim = world.claim(slot=SLOT)
    assert claim is not None and claim.fence.job_id == job_id


def test_after_the_exact_wait_any_worker_will_do(world: World) -> None:
    job_id = with_numerics(world, exact_wait_seconds=300)
    with world.db.writing() as tx:  # five minutes pass
        tx.execute(update(jobs).values(exact_until=jobs.c.exact_until - 300.0))
    claim = world.claim(slot="cpu:another")
    assert claim is not None and claim.fence.job_id == job_id


def test_without_an_exact_wait_any_worker_will_do_at_once(world: World) -> None:
    with_numerics(world, exact_wait_seconds=0)
    assert world.claim(slot="cpu:another") is not None


def test_every_return_to_the_queue_waits_anew(world: World) -> None:
    job_id = with_numerics(world, exact_wait_seconds=300)
    for leave in (
        lambda: world.lose(world.claimed().fence.job_id),
        lambda: (job_store.pause(world.db, job_id), job_store.resume(world.db, job_id)),
        lambda: (job_store.cancel(world.db, job_id), job_store.retry(world.db, job_id)),
    ):
        with world.db.writing() as tx:
            tx.execute(update(jobs).values(exact_until=0.0))
        leave()
        assert world.job(job_id).status == "queued"
        assert world.claim(slot="cpu:another") is None


def test_ten_claims_at_once_for_one_job(world: World) -> None:
    for _ in range(5):
        job_id = world.submit()
        answers = at_once(*[lambda n=n: world.claim(owner(f"wrk_{n}")) for n in range(10)])
        [claim] = [answer for answer in answers if answer is not None]
        assert isinstance(claim, Claim) and claim.fence == job_store.Fence(job_id, 1)
        assert len(world.attempts(job_id)) == 1


def test_sixteen_workers_never_share_one_of_many_jobs(world: World) -> None:
    made = {world.submit() for _ in range(64)}
    taken: list[str] = []
    guard = threading.Lock()

    def work(name: str) -> None:
        while (claim := world.claim(owner(name))) is not None:
            assert claim.job.worker_id == name
            with guard:
                taken.append(claim.fence.job_id)

    assert at_once(*[lambda n=n: work(f"wrk_{n}") for n in range(16)]) == [None] * 16
    assert len(taken) == 64 and set(taken) == made
    assert {job.attempt for job in job_store.list_jobs(world.db, limit=200)} == {1}


def test_claims_and_releases_at_once_never_double(world: World) -> None:
    """Jobs come and go while workers claim: nobody ever holds what somebody else holds."""
    for _ in range(5):
        world.submit()
    held: set[str] = set()
    guard = threading.Lock()
    doubled: list[str] = []

    def work(name: str) -> None:
        dice = random.Random(name)
        for _ in range(12):
            claim = world.claim(owner(name))
            if claim is None:
                continue
            with guard:
                doubled.extend({claim.fence.job_id} & held)
                held.add(claim.fence.job_id)
            if dice.random() < 0.5:
                job_store.renew(world.db, claim.fence, LEASE)
            with guard:
                held.discard(claim.fence.job_id)
            job_store.release(world.db, claim.fence, job_store.endings.EndCause.PREEMPTED, "Next.")

    assert at_once(*[lambda n=n: work(f"wrk_{n}") for n in range(8)]) == [None] * 8
    assert doubled == []


def test_a_claim_brings_what_a_resume_may_load_newest_first(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    first, second, third = (world.commit(fence, step, keep_last=3) for step in (10, 20, 30))
    job_store.reject_checkpoint(world.db, fence, third, "The hash differs.")
    job_store.release(world.db, fence, job_store.endings.EndCause.PREEMPTED, "Asked to stop.")
    claim = world.claimed()
    assert [row.id for row in claim.checkpoints] == [second, first]
    assert claim.fence.attempt == 2


def test_the_queue_position_is_the_order_of_claims(world: World) -> None:
    made = [world.submit(priority=priority) for priority in (0, 7, 0, -3)]
    rows = job_store.list_jobs(world.db)
    positions = job_store.overview(world.db, rows, silent_after_seconds=30.0).queue_positions
    order = [world.claimed().fence.job_id for _ in made]
    assert [positions[job_id] for job_id in order] == [1, 2, 3, 4]


def test_classes_that_wait(world: World) -> None:
    for device in ("cpu", "auto", "cpu", "cuda"):
        world.submit(resources={"device": device})
    assert job_store.claimable_classes(world.db) == ["any", "cpu", "cuda"]
    for device in itertools.repeat("cuda", 2):
        assert world.claim(device=device)
    assert job_store.claimable_classes(world.db) == ["cpu"]


def test_a_claim_whose_reply_was_lost_is_found_again(world: World) -> None:
    assert job_store.unheard_claim(world.db, owner("wrk_1"), LEASE) is None
    world.running()
    world.submit()
    fence = world.claimed(owner("wrk_2"), lease=0.0).fence
    found = job_store.unheard_claim(world.db, owner("wrk_2"), LEASE)
    assert found is not None
    assert (found.fence, found.checkpoints) == (fence, [])
    assert world.expire() == [], "its lease is fresh"
    assert world.events(fence.job_id) == ["created", "claimed"], "nothing happened but that it was heard of"
    assert len(world.attempts(fence.job_id)) == 1


def test_so_is_a_restart_whose_reply_was_lost(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.trainer_started(world.db, fence, ProcessId(17, 1.0))
    checkpoint = world.commit(fence, 10)
    assert job_store.unheard_claim(world.db, owner(), LEASE) is None, "its trainer may have done steps"
    world.restart(fence)
    with pytest.raises(LeaseLost):
        world.restart(fence)
    found = job_store.unheard_claim(world.db, owner(), LEASE)
    assert found is not None
    assert found.fence == job_store.Fence(fence.job_id, 2)
    assert [row.id for row in found.checkpoints] == [checkpoint]


def test_what_was_taken_back_is_nobodys_unheard_claim(world: World) -> None:
    fence = world.running()
    assert world.lose(fence.job_id) == [fence.job_id]
    assert job_store.unheard_claim(world.db, owner(), LEASE) is None
