"""What befalls workers, hosts and files, and what zombies try."""

import time
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import update

from models import job_store
from models.errors import LeaseLost
from models.job_state import JobStatus
from models.job_store.endings import MAX_LOSSES
from models.tables import jobs
from tests.contract.machine.hands import PICKS, Fate, one_of
from tests.contract.machine.model import STEPS_PER_EPOCH, ModelJob
from tests.contract.machine.users import Users
from tests.contract.machine.workers import SLOTS, Workers
from tests.contract.test_fencing import WRITES
from tests.contract.world import LEASE

HOUR = 3600.0
#: To lose a worker.
WAYS = ["fall_silent", "fall_silent", "die", "die", "crash", "reboot", "take_workers_down"]


class Faults(Users, Workers):
    def running(self) -> list[ModelJob]:
        return [job for job in self.jobs if job.status == JobStatus.RUNNING]

    @precondition(lambda self: self.running())
    @rule(
        pick=PICKS,
        how=st.sampled_from(
            ["crash", "fall_silent", "fall_silent", "die", "die", "reboot", "take_workers_down"]
        ),
    )
    def lose(self, pick: int, how: str) -> None:
        """A worker; until that is noticed, its job runs on paper."""
        getattr(self, how)(one_of(self.running(), pick))

    def crash(self, job: ModelJob) -> None:
        """It forgets what it holds, without a word."""
        self.holders.pop(job.id, None)

    def fall_silent(self, job: ModelJob) -> None:
        """Its lease runs out; before that is noticed, a renewal makes up for it."""
        with self.db.writing() as tx:
            ago = self.db.lease_now() - 2 * LEASE
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(lease_expires_at=ago))
        job.overdue = True

    def die(self, job: ModelJob) -> None:
        """The process that claimed is no more: at once where that can be seen, else by its silence."""
        self.holders.pop(job.id, None)
        if self.world.job(job.id).owner_host != "here":
            self.fall_silent(job)
            return
        with self.db.writing() as tx:
            another = jobs.c.owner_started_at - 100.0  # of the same number
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(owner_started_at=another))
        job.overdue, job.revivable = True, False

    def reboot(self, job: ModelJob) -> None:
        """SQLite's only host comes up again, and its clock begins anew; in a fleet it is one of many."""
        if not self.db.is_sqlite:
            self.die(job)
            return
        with self.db.writing() as tx:
            tx.execute(
                update(jobs)
                .where(jobs.c.status == JobStatus.RUNNING)
                .values(owner_boot_id="the-boot-before", lease_expires_at=jobs.c.lease_expires_at + HOUR)
            )
        self.holders.clear()
        for lost in self.running():
            lost.overdue, lost.revivable = True, False

    def take_workers_down(self, job: ModelJob) -> None:
        """One worker after another claims it, and is lost."""
        for _ in range(MAX_LOSSES - 1):
            self.fall_silent(job)
            self.expire(0.0)
            self.claim("wrk_1")
            if job.status != JobStatus.RUNNING:
                break

    @precondition(lambda self: self.jobs)
    @rule(clock=st.sampled_from([0.0, 0.0, HOUR, -HOUR]))
    def tick(self, clock: float) -> None:
        """A reconciler's: take back, then ring."""
        self.expire(clock)
        self.ring()

    def expire(self, clock: float) -> None:
        """By a reconciler whose host's clock is wrong, perhaps: it must not find anything then."""
        overdue = {job.id for job in self.running() if job.overdue}
        if overdue:  # on SQLite the wall clock says how long these wait for equal numerics
            clock = 0.0
        real = time.time
        with mock.patch("time.time", lambda: real() + clock):
            taken = job_store.expire_lost_leases(self.db, 0.001)
        assert set(taken) == overdue and len(taken) == len(overdue), "each lost job, once, and no other"
        for job in self.jobs:
            if job.id in overdue:
                job.lost()
                self.gone(job_store.Fence(job.id, job.attempt))

    @precondition(lambda self: self.stale)
    @rule(pick=PICKS, write=st.sampled_from(sorted(WRITES)))
    def thaw_zombie(self, pick: int, write: str) -> None:
        """Whoever lost its lease changes nothing any more, whatever it tries (I1)."""
        fence = one_of(self.stale, pick)
        before = self.world.dump()
        try:
            WRITES[write](self.world, fence)
        except LeaseLost:
            pass
        else:
            job = next(job for job in self.jobs if job.id == fence.job_id)
            ended_so = {"finish": JobStatus.SUCCEEDED, "fail": JobStatus.FAILED}.get(write)
            is_told_again = (job.status, job.attempt) == (ended_so, fence.attempt)
            assert is_told_again, f"a zombie's {write} was accepted"
        assert self.world.dump() == before, f"a zombie's {write} had an effect"

    @precondition(lambda self: self.frozen_sweeps)
    @rule(pick=PICKS)
    def thaw_sweep(self, pick: int) -> None:
        """It was frozen between its look at the database and its look at the files."""
        one_of(self.frozen_sweeps, pick)()

    @precondition(lambda self: any(job.usable for job in self.jobs))
    @rule(pick=PICKS)
    def damage(self, pick: int) -> None:
        """Bits rot in a newest checkpoint; whoever resumes next will see it."""
        newest = one_of([job for job in self.jobs if job.usable], pick).usable[0]
        newest.damaged = True

    # -- When it is over -------------------------------------------------------------------------

    def recover(self) -> None:
        """No fault any more, and workers of every kind: every job that nobody stopped succeeds (I4)."""
        self.holders.clear()
        for job in self.running():
            self.fall_silent(job)
        self.expire(0.0)
        for worker in SLOTS:
            while any(job.may_go_to(*SLOTS[worker]) for job in self.jobs):
                self.claim(worker)
                [holder] = self.holders.values()
                self.see_through(holder.job)
        for job in self.jobs:
            assert job.is_settled, f"{job.id} is {job.status} for good"

    def see_through(self, job: ModelJob) -> None:
        while holder := self.holders.get(job.id):
            self.next_of_its_life(holder, STEPS_PER_EPOCH, Fate())
        assert job.status == JobStatus.SUCCEEDED
