"""How workers come to hold a job, what they report meanwhile, and how they part with it."""

import os
from collections import Counter
from collections.abc import Callable
from types import FunctionType
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from models import job_store
from models.host import Owner, ProcessId, boot_id, pid_namespace
from models.identifiers import new_id
from models.job_state import EndCause, EventType, JobStatus, Phase
from models.job_store import Position, Requests
from tests.contract.machine.hands import FATES, PICKS, Fate, one_of
from tests.contract.machine.model import Holder, ModelJob
from tests.contract.machine.training import Training
from tests.contract.world import LEASE, owner
from worker.sweep import sweep

#: Device and slot. A CPU of another kind computes other bits.
SLOTS = {"wrk_1": ("cpu", "cpu:one"), "wrk_2": ("cpu", "cpu:another"), "wrk_3": ("cuda", "cuda:one")}
WORKERS = st.sampled_from([*SLOTS, "wrk_1"])


def owner_of(worker: str) -> Owner:
    """The second worker is on this host, where its death is seen; its process is this one."""
    if worker != "wrk_2":
        return owner(worker)
    return Owner(worker, "here", boot_id(), pid_namespace(), ProcessId.of(os.getpid()))


def working(name: str, moves: st.SearchStrategy[int]) -> Callable[..., Any]:
    """Makes a rule of it, for so many moves at once."""

    def decorate(function: FunctionType) -> Any:
        drawn = rule(worker=WORKERS, pick=PICKS, moves=moves, steps=st.integers(1, 4), fate=FATES)
        named = FunctionType(function.__code__, function.__globals__, name)
        return precondition(lambda self: self.holders or self.waiting())(drawn(named))

    return decorate


class Workers(Training):
    @precondition(lambda self: self.waiting())
    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        device, slot = SLOTS[worker]
        may = [job for job in self.jobs if job.may_go_to(device, slot)]
        claim = job_store.claim(self.db, owner_of(worker), device, slot, LEASE)
        if claim is None:
            assert not may, "a job waits that this worker could run (I4)"
            return
        assert may, "no job was for this worker"
        running = Counter(job.tenant for job in self.jobs if job.status == JobStatus.RUNNING)
        job = min(may, key=lambda j: (-j.priority, running[j.tenant], j.id))
        assert claim.job.id == job.id, "the highest priority, then the fewest running, then the oldest"
        job.claimed()
        assert claim.fence.attempt == job.attempt, "the attempt rises by one (I6)"
        assert [row.id for row in claim.checkpoints] == [c.id for c in job.usable]
        self.holders[job.id] = Holder(claim.fence, job, slot, job.usable)

    def work(self, worker: str, pick: int, moves: int, steps: int, fate: Fate) -> None:
        if not self.holders:
            self.claim(worker)
        if self.holders:
            self.go_on(pick, moves, steps, fate)

    # Most of a history is work, or it would seldom get anywhere. (Rules of one name come and go together.)
    work_a_moment = working("work_a_moment", st.integers(1, 2))(work)
    work_a_little = working("work_a_little", st.integers(1, 4))(work)
    work_on = working("work_on", st.integers(2, 9))(work)
    work_for_long = working("work_for_long", st.integers(4, 16))(work)
    work_longer = working("work_longer", st.integers(8, 20))(work)

    def waiting(self) -> list[ModelJob]:
        return [job for job in self.jobs if job.status == JobStatus.QUEUED]

    # -- Meanwhile -------------------------------------------------------------------------------

    @precondition(lambda self: self.holders)
    @rule(
        pick=PICKS,
        what=st.sampled_from(["renew", "renew", "progress", "trainer", "first step", "event", "dataset"]),
        fate=FATES,
    )
    def report(self, pick: int, what: str, fate: Fate) -> None:
        holder = one_of(self.holding(), pick)
        fence, job = holder.fence, holder.job
        step = holder.step if holder.is_prepared else None
        match what:
            case "renew":
                asked = job_store.renew(self.db, fence, LEASE)
                assert asked == Requests(job.cancel, job.pause)
                job.overdue = job.overdue and not job.revivable
            case "progress":
                position = Position(str(Phase.TRAINING), 1, 9, step, holder.epochs_done)
                job_store.record_progress(self.db, fence, position)
                if step is not None:
                    job.step, job.epochs_done = step, holder.epochs_done
            case "trainer":
                job_store.trainer_started(self.db, fence, ProcessId(77, 1.0))
            case "first step":
                job_store.first_step(self.db, fence)
            case "event":
                key = new_id("evt")
                self.write(
                    fate,
                    lambda: job_store.record_event(
                        self.db, fence, key, EventType.PARKED, "Waited, then went on."
                    ),
                    repeatable=True,
                )
            case "dataset":
                found = {"classes": ["iris"], "num_train": 2, "num_val": 1}
                self.write(
                    fate,
                    lambda: job_store.dataset_checked(self.db, fence, "manifest.json", found),
                    repeatable=True,
                )

    # -- Its end ---------------------------------------------------------------------------------

    @precondition(lambda self: self.holders)
    @rule(pick=PICKS, is_failure=st.booleans(), fate=FATES)
    def part(self, pick: int, is_failure: bool, fate: Fate) -> None:
        holder = one_of(self.holding(), pick)
        (self.fail if is_failure else self.release)(holder, fate)
        self.gone(holder.fence)

    def fail(self, holder: Holder, fate: Fate) -> None:
        """For good, whatever the budget says."""
        wanted = JobStatus.CANCELLED if holder.job.cancel else JobStatus.FAILED
        self.write(
            fate,
            lambda: job_store.fail(
                self.db, holder.fence, EndCause.TRAINER_ERROR, "dataset_changed", "It differs."
            ),
            repeatable=wanted == JobStatus.FAILED,
        )
        holder.job.leave(wanted)

    def release(self, holder: Holder, fate: Fate) -> None:
        """An orderly stop spends no budget."""
        to = holder.job.settled(JobStatus.QUEUED)
        told = self.write(
            fate,
            lambda: job_store.release(self.db, holder.fence, EndCause.PREEMPTED, "Stopped."),
            repeatable=False,
        )
        assert told == to
        holder.job.leave(to)

    @precondition(lambda self: self.holders)
    @rule(pick=PICKS, is_told_step=st.booleans(), fate=FATES)
    def trainer_dies(self, pick: int, is_told_step: bool, fate: Fate) -> None:
        """On the spot another attempt begins, unless a request or the budget says otherwise."""
        holder = one_of(self.holding(), pick)
        job, step = holder.job, holder.step if is_told_step and holder.is_prepared else None
        after = self.write(fate, lambda: self.world.restart(holder.fence, step=step), repeatable=False)
        to = job.trainer_died(step)
        self.gone(holder.fence)
        if to != JobStatus.RUNNING:
            assert after == to
            return
        assert after.fence.attempt == job.attempt
        assert [row.id for row in after.checkpoints] == [c.id for c in job.usable]
        self.holders[job.id] = Holder(after.fence, job, holder.slot, job.usable)

    # -- Files -----------------------------------------------------------------------------------

    @precondition(lambda self: self.let_go)
    @rule()
    def unlink(self) -> None:
        """Whoever was told what to let go unlinks it now, perhaps long after its lease."""
        self.store.files -= set(self.let_go)
        self.let_go = []

    @precondition(lambda self: self.holders)
    @rule(pick=PICKS, freezes=st.booleans())
    def sweep(self, pick: int, freezes: bool) -> None:
        """Clear away what killed attempts left, now or when the sweeper thaws."""
        holder = one_of(self.holding(), pick)
        recorded = job_store.recorded_files(self.db, holder.fence)
        assert recorded.committed_step == holder.job.committed_step
        later = lambda: sweep(  # noqa: E731
            self.store,  # type: ignore[arg-type]
            holder.job.id,
            recorded,
            before_attempt=holder.fence.attempt,
        )
        if freezes:
            self.frozen_sweeps.append(later)
        else:
            later()
