"""Workers that fall silent or are found dead lose their jobs, and nobody else does (I4)."""

import os
import subprocess
import sys
import time

import pytest
from sqlalchemy import select, update

from models import job_store
from models.database import Database
from models.errors import LeaseLost
from models.host import Owner, ProcessId, boot_id, boot_time_clock, pid_namespace
from models.identifiers import new_id
from models.job_state import EndCause
from models.job_store import endings
from models.job_store.endings import MAX_LOSSES
from models.tables import jobs
from tests.contract.world import LEASE, World, at_once, owner
from tests.servers.waiting import until

on_sqlite = pytest.mark.parametrize("db", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


def here(pid: int, started_at: float, name: str = "wrk_here") -> Owner:
    return Owner(name, "here", boot_id(), pid_namespace(), ProcessId(pid, started_at))


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )


def test_a_lease_that_ran_out_sends_the_job_back(world: World) -> None:
    fence = world.running(lease=-3.0)
    assert world.expire() == [fence.job_id]
    job = world.job(fence.job_id)
    assert (job.status, job.attempt, job.losses, job.failures, job.recoveries) == ("queued", 1, 1, 0, 1)
    assert job.worker_id is None and job.lease_expires_at is None
    [line] = world.attempts(fence.job_id)
    assert line.end_cause == "worker_lost"
    assert 3.0 < line.detection_seconds < 60.0, "since the last renewal"
    assert world.events(fence.job_id)[-1] == "expired"
    assert world.claimed().fence.attempt == 2


def test_a_live_lease_is_left_alone(world: World) -> None:
    fence = world.running(lease=LEASE)
    before = world.dump()
    assert world.expire() == []
    assert world.dump() == before
    assert job_store.renew(world.db, fence, LEASE)


def test_only_those_that_ran_out(world: World) -> None:
    dead = [world.running(lease=-1.0).job_id for _ in range(3)]
    live = [world.running(lease=LEASE).job_id for _ in range(3)]
    assert sorted(world.expire()) == sorted(dead)
    assert {world.job(job_id).status for job_id in live} == {"running"}
    assert world.expire() == [], "once is enough"


def test_a_renewal_in_the_last_moment_counts(world: World) -> None:
    """Judged again under the lock: what looked lost may have been renewed since."""
    fence = world.running(lease=-1.0)
    job_store.renew(world.db, fence, LEASE)
    assert not job_store.endings._expire(world.db, fence, found_dead=False, lease_seconds=0.001)
    assert world.job(fence.job_id).status == "running"


# -- The same host -----------------------------------------------------------------------------------


def test_a_worker_that_died_on_this_host_is_noticed_before_its_lease_ends(world: World) -> None:
    process = sleeper()
    claim_by = here(process.pid, ProcessId.of(process.pid).started_at)
    world.submit()
    fence = world.claimed(claim_by, lease=3600.0).fence
    assert world.expire() == [], "it lives"
    process.kill()
    until(lambda: world.expire() == [fence.job_id], what="the death to be noticed", seconds=5)
    process.communicate()
    assert world.job(fence.job_id).status == "queued"
    assert "found dead" in world.event(fence.job_id, "expired").message


def test_a_zombie_counts_as_dead(world: World) -> None:
    process = sleeper()
    identity = ProcessId.of(process.pid)
    world.submit()
    fence = world.claimed(here(identity.pid, identity.started_at), lease=3600.0).fence
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it ended and stays uncollected
    assert world.expire() == [fence.job_id]
    process.communicate()


def test_another_process_of_the_same_number_is_not_the_worker(world: World) -> None:
    mine = ProcessId.of(os.getpid())
    world.submit()
    fence = world.claimed(here(mine.pid, mine.started_at - 100.0), lease=3600.0).fence
    assert world.expire() == [fence.job_id]


def test_a_live_worker_of_this_host_keeps_its_job(world: World) -> None:
    mine = ProcessId.of(os.getpid())
    world.submit()
    fence = world.claimed(here(mine.pid, mine.started_at), lease=3600.0).fence
    assert world.expire() == []
    assert job_store.renew(world.db, fence, LEASE)


def test_numbers_of_processes_mean_nothing_in_another_container(world: World) -> None:
    """A pid that is dead here says nothing of a worker in another namespace."""
    world.submit()
    world.claimed(Owner("wrk_1", "there", boot_id(), "pid:[0]", ProcessId(2**22 + 1, 1.0)), lease=3600.0)
    assert world.expire() == []


@on_postgresql
def test_nor_on_another_machine(world: World) -> None:
    world.submit()
    elsewhere = Owner("wrk_1", "there", "another-boot", pid_namespace(), ProcessId(2**22 + 1, 1.0))
    world.claimed(elsewhere, lease=3600.0)
    assert world.expire() == []


@on_sqlite
def test_a_reboot_of_the_only_host_loses_its_workers_at_once(world: World) -> None:
    world.submit()
    before_reboot = Owner("wrk_1", "here", "the-boot-before", pid_namespace(), ProcessId(1, 0.0))
    fence = world.claimed(before_reboot, lease=3600.0).fence
    assert world.expire() == [fence.job_id]


# -- Budgets and requests ----------------------------------------------------------------------------


def test_a_job_that_takes_its_workers_down_is_given_up(world: World) -> None:
    job_id = world.submit()
    for losses in range(1, MAX_LOSSES):
        world.claimed(owner(f"wrk_{losses}"))
        assert world.lose(job_id) == [job_id]
        assert (world.job(job_id).status, world.job(job_id).losses) == ("queued", losses)
    world.claimed()
    assert world.lose(job_id) == [job_id]
    job = world.job(job_id)
    assert (MAX_LOSSES, job.status, job.error_code, job.failures) == (10, "failed", "no_progress", 0)
    assert "10 workers" in job.error_message
    assert len(world.attempts(job_id)) == 10


def test_losses_and_failures_are_counted_apart(world: World) -> None:
    job_id = world.submit(fault_tolerance={"max_failures": 3})
    for _ in range(2):
        fence = world.claimed().fence
        world.restart(fence)
        world.lose(job_id)
    job = world.job(job_id)
    assert (job.failures, job.losses, job.status) == (2, 2, "queued")


def test_progress_refills_the_budget_of_losses(world: World) -> None:
    job_id = world.submit()
    for step in range(1, 26):
        fence = world.claimed().fence
        if step % 5 == 0:
            world.commit(fence, step)
        world.lose(job_id)
    assert world.job(job_id).status == "queued"


@pytest.mark.parametrize(
    ("requests", "status"),
    [(["cancel"], "cancelled"), (["pause"], "paused"), (["pause", "cancel"], "cancelled")],
)
def test_what_users_asked_for_happens_though_the_worker_is_gone(
    world: World, requests: list[str], status: str
) -> None:
    fence = world.running()
    for request in requests:
        getattr(job_store, request)(world.db, fence.job_id)
    world.lose(fence.job_id)
    job = world.job(fence.job_id)
    assert (job.status, job.cancel_requested, job.pause_requested) == (status, False, False)
    assert job.recoveries == 0
    assert world.attempts(fence.job_id)[0].end_cause == "worker_lost"
    assert world.events(fence.job_id)[-1] == status


def test_the_lost_worker_is_shown_as_lost(world: World) -> None:
    who = owner("wrk_9")
    job_store.register_worker(world.db, who, device="cpu", slot="s", threads=2, version="1")
    world.submit()
    fence = world.claimed(who).fence
    job_store.worker_beat(world.db, "wrk_9", fence.job_id)
    world.lose(fence.job_id)
    [worker] = job_store.list_workers(world.db)
    assert (worker.status, worker.job_id) == ("lost", None)


# -- Many at once ------------------------------------------------------------------------------------


def test_everybody_may_look_at_once(world: World) -> None:
    """Each lost job is taken back by exactly one of many reconcilers."""
    lost = [world.running(lease=-1.0).job_id for _ in range(12)]
    answers = at_once(*[world.expire] * 8)
    taken = [job_id for answer in answers for job_id in answer]  # type: ignore[union-attr]
    assert sorted(taken) == sorted(lost)
    for job_id in lost:
        assert world.events(job_id) == ["created", "claimed", "expired"]
        assert world.job(job_id).losses == 1


def test_one_look_takes_back_a_bounded_number(world: World) -> None:
    lost = [world.running(lease=-1.0).job_id for _ in range(8)]
    first = job_store.expire_lost_leases(world.db, 0.001, limit=5)
    second = job_store.expire_lost_leases(world.db, 0.001, limit=5)
    assert (len(first), len(second)) == (5, 3)
    assert sorted([*first, *second]) == sorted(lost)


@pytest.mark.parametrize("round_", range(6))
def test_a_renewal_against_an_expiry_has_one_winner(world: World, round_: int) -> None:
    fence = world.running(lease=-1.0)

    def renew() -> str:
        try:
            job_store.renew(world.db, fence, LEASE)
        except LeaseLost:
            return "lost"
        return "kept"

    kept, taken = at_once(renew, world.expire)
    assert (kept, taken) in [("kept", []), ("lost", [fence.job_id])]
    assert world.job(fence.job_id).status == ("running" if kept == "kept" else "queued")


def test_an_attempt_claimed_since_the_look_is_not_taken(world: World) -> None:
    fence = world.running(lease=-1.0)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    again = world.claimed(lease=-1.0).fence
    assert not job_store.endings._expire(world.db, fence, found_dead=True, lease_seconds=0.001)
    assert world.job(fence.job_id).attempt == again.attempt == 2


def test_a_lease_renewed_since_the_look_is_not_taken(world: World) -> None:
    fence = world.running(lease=-1.0)
    job_store.renew(world.db, fence, LEASE)
    assert not job_store.endings._expire(world.db, fence, found_dead=False, lease_seconds=0.001)
    assert world.job(fence.job_id).status == "running"


# -- Clocks ------------------------------------------------------------------------------------------


def lease_clock(db: Database) -> float:
    with db.reading() as tx:
        return float(tx.execute(select(db.lease_now())).scalar_one())


def test_no_change_of_this_machines_clock_moves_a_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL judges by its own clock, SQLite by the time since boot."""
    before = lease_clock(world.db)
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 3600.0)
    fence = world.running(lease=LEASE)
    assert world.expire() == []
    assert job_store.renew(world.db, fence, LEASE)
    assert 0.0 <= lease_clock(world.db) - before < 60.0
    if world.db.is_sqlite:
        assert abs(lease_clock(world.db) - boot_time_clock()) < 60.0


@on_postgresql
def test_after_the_server_was_away_nothing_expires_for_one_lease(world: World) -> None:
    fence = world.running(lease=-1.0)
    with world.db.reading() as tx:
        uptime = float(
            tx.exec_driver_sql(
                "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
            ).scalar_one()
        )
    assert job_store.expire_lost_leases(world.db, uptime + 60.0) == []
    assert job_store.expire_lost_leases(world.db, uptime / 2) == [fence.job_id]


def test_a_question_that_an_outage_held_up_takes_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives together with the renewals of workers that were cut off, too."""
    fence = world.running(lease=-1.0)
    clock = iter([100.0, 100.0 + 2 * endings.LATE_SECONDS])
    with monkeypatch.context() as outage:
        outage.setattr(endings, "boot_time_clock", lambda: next(clock))
        assert world.expire() == []
    assert world.expire() == [fence.job_id]


def test_a_crash_between_claim_and_first_word_is_like_any_loss(world: World) -> None:
    job_id = world.submit(name=new_id("name"))
    world.claimed(lease=-1.0)
    with world.db.writing() as tx:
        tx.execute(update(jobs).values(phase=None))
    assert world.expire() == [job_id]
