"""Users, workers and reconcilers at the same moment: one wins, and the trail tells a legal story (I7).

After each test the invariants are checked: events without gaps on a legal path, a ledger without holes.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from models import job_store
from models.errors import LeaseLost, WrongState
from models.job_state import EndCause
from models.tables import jobs
from tests.contract.world import WEIGHTS, World, at_once, owner

ROUNDS = 60
TERMINAL = {"succeeded", "failed", "cancelled"}


def outcome(answer: object) -> str:
    """``ok``, or the name of a refusal; anything else is a bug."""
    assert not isinstance(answer, BaseException) or isinstance(answer, LeaseLost | WrongState), answer
    return type(answer).__name__ if isinstance(answer, BaseException) else "ok"


def test_cancel_against_finish(world: World) -> None:
    seen = set()
    for _ in range(ROUNDS):
        fence = world.running()
        cancelled, finished = map(outcome, at_once(
            lambda f=fence: job_store.cancel(world.db, f.job_id),
            lambda f=fence: job_store.finish(world.db, f, WEIGHTS),
        ))  # fmt: skip
        seen.add(cancelled)
        assert finished == "ok", "work that is done is not thrown away"
        assert world.job(fence.job_id).status == "succeeded"
        assert len(TERMINAL & set(world.events(fence.job_id))) == 1
    assert seen <= {"ok", "WrongState"}


def test_cancel_against_the_worker_that_leaves(world: World) -> None:
    for _ in range(ROUNDS):
        fence = world.running()
        at_once(
            lambda f=fence: job_store.cancel(world.db, f.job_id),
            lambda f=fence: job_store.release(world.db, f, EndCause.PREEMPTED, "Stopped."),
        )
        assert world.job(fence.job_id).status == "cancelled", "whoever was first"
        assert world.events(fence.job_id).count("cancelled") == 1


def test_cancel_against_claim(world: World) -> None:
    for _ in range(ROUNDS):
        job_id = world.submit()
        _, claim = at_once(lambda j=job_id: job_store.cancel(world.db, j), world.claim)
        job = world.job(job_id)
        if claim is None:
            assert job.status == "cancelled"
        else:
            assert (job.status, job.cancel_requested) == ("running", True)
            world.restart(claim.fence)  # type: ignore[union-attr]
        assert world.job(job_id).status == "cancelled"


def test_pause_against_crash_ends_paused(world: World) -> None:
    for number in range(ROUNDS):
        fence = world.running(lease=-1.0)
        crash: Callable[[], Any] = world.expire if number % 2 else lambda f=fence: world.restart(f)
        paused, _ = at_once(lambda f=fence: job_store.pause(world.db, f.job_id), crash)
        assert outcome(paused) == "ok"
        if world.job(fence.job_id).status == "running":
            world.lose(fence.job_id)
        assert world.job(fence.job_id).status == "paused"


def test_finish_against_expiry(world: World) -> None:
    for _ in range(ROUNDS):
        fence = world.running(lease=-1.0)
        finished, taken = at_once(lambda f=fence: job_store.finish(world.db, f, WEIGHTS), world.expire)
        won = outcome(finished) == "ok"
        assert taken == ([] if won else [fence.job_id])
        assert world.job(fence.job_id).status == ("succeeded" if won else "queued")
        if not won:
            job_store.cancel(world.db, fence.job_id)


def test_two_users_at_once(world: World) -> None:
    for _ in range(ROUNDS // 2):
        job_id = world.job_in("failed")
        answers = [outcome(a) for a in at_once(*[lambda j=job_id: job_store.retry(world.db, j)] * 4)]
        assert sorted(answers) == ["WrongState"] * 3 + ["ok"]
        job_store.cancel(world.db, job_id)


@pytest.mark.parametrize("seed", range(3))
def test_everybody_at_once(world: World, seed: int) -> None:
    """Eight hands at random on six jobs; every answer is an effect or a typed refusal."""
    made = [world.submit(fault_tolerance={"max_failures": 3}) for _ in range(6)]
    dice = random.Random(seed)
    scripts = [[(dice.random(), dice.choice(made)) for _ in range(24)] for _ in range(8)]

    def user(job_id: str, chance: float) -> None:
        request = ["cancel", "pause", "resume", "retry", "retry", "resume"][int(chance * 6)]
        getattr(job_store, request)(world.db, job_id)

    def worker(name: str, chance: float) -> None:
        claim = world.claim(owner(name))
        if claim is None:
            return
        fence = claim.fence
        if chance < 0.3:
            world.commit(fence, claim.job.committed_step + 1)
        if chance < 0.2:
            job_store.finish(world.db, fence, WEIGHTS)
        elif chance < 0.4:
            job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.")
        elif chance < 0.6:
            after = world.restart(fence)
            if hasattr(after, "fence"):
                job_store.fail(world.db, after.fence, EndCause.TRAINER_ERROR, "dataset_invalid", "Empty.")
        elif chance < 0.8:
            with world.db.writing() as tx:
                tx.execute(
                    update(jobs)
                    .where(jobs.c.id == fence.job_id, jobs.c.lease_expires_at.is_not(None))
                    .values(lease_expires_at=jobs.c.lease_expires_at - 1000.0)
                )
            world.expire()

    def hand(number: int) -> None:
        for chance, job_id in scripts[number]:
            try:
                if number < 4:
                    user(job_id, chance)
                else:
                    worker(f"wrk_{number}", chance)
            except (LeaseLost, WrongState):
                continue

    assert at_once(*[lambda n=n: hand(n) for n in range(8)]) == [None] * 8
