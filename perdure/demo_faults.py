"""The demo's two kills: real SIGKILLs, at moments when there is work to lose."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.errors import LocalStackError
from perdure.processes import descendants, kill_tree
from perdure.types import Attempt, Job

if TYPE_CHECKING:
    from perdure.client import Perdure


@dataclass(frozen=True)
class Fault:
    """A kill that is due once the job has come so far."""

    target: str  #: "trainer" or "worker"
    after_epochs: int  #: so many are committed
    min_uncommitted_share: float = 0.2  #: of an epoch's steps, since the last checkpoint
    max_uncommitted_share: float = 0.9  #: so that the next checkpoint does not slip in between

    def is_due(self, job: Job, committed_step: int) -> bool:
        """Whether the job is now in the middle of work that is not saved yet."""
        progress = job.progress
        if job.status != "running" or progress is None or progress.phase != "training":
            return False
        if not progress.steps or not progress.epochs or progress.step is None:
            return False
        steps_an_epoch = progress.steps / progress.epochs
        uncommitted = (progress.step - committed_step) / steps_an_epoch
        return (
            progress.epochs_done >= self.after_epochs
            and self.min_uncommitted_share <= uncommitted <= self.max_uncommitted_share
        )


@dataclass(frozen=True)
class Kill:
    """A fault that happened."""

    fault: Fault
    attempt: int
    pids: Sequence[int]
    step: int
    uncommitted_steps: int
    at: float  #: seconds since the epoch, on this machine's clock, which is the server's too


@dataclass
class FaultPlan:
    """Carries out faults in their order, each after the recovery from the one before."""

    client: "Perdure"
    service_pid: int
    faults: list[Fault]
    clock: Callable[[], float] = time.time
    kills: list[Kill] = field(default_factory=list)

    def after_poll(self, job: Job, attempts: Sequence[Attempt]) -> Kill | None:
        """Kill now if it is time; called after each look at the job."""
        if len(self.kills) == len(self.faults) or not attempts:
            return None
        fault, current = self.faults[len(self.kills)], attempts[-1]
        if self.kills and current.attempt <= self.kills[-1].attempt:
            return None
        if current.first_step_at is None or current.ended_at is not None:
            return None
        committed = max((row.step or 0 for row in self.client.jobs.checkpoints(job.id)), default=0)
        if not fault.is_due(job, committed):
            return None
        step = job.progress.step or 0 if job.progress else 0
        at = self.clock()
        pids = self._strike(fault, current)
        if not pids:
            return None
        kill = Kill(fault, current.attempt, pids, step, step - committed, at)
        self.kills.append(kill)
        return kill

    def recovery_seconds(self, kill: Kill, attempts: Sequence[Attempt]) -> float | None:
        """From the kill to the next step that was done, by whichever attempt did it."""
        later = [row.first_step_at for row in attempts if row.attempt > kill.attempt and row.first_step_at]
        return min(instant.timestamp() for instant in later) - kill.at if later else None

    def _strike(self, fault: Fault, attempt: Attempt) -> list[int]:
        pid = attempt.trainer_pid if fault.target == "trainer" else attempt.worker_pid
        if not pid:
            return []
        # The number comes from a server's answer: only what descends from our own service is ours to kill.
        if pid not in descendants(self.service_pid):
            return []
        if fault.target == "worker":
            return kill_tree(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return [pid]
        return []


def check_all_happened(plan: FaultPlan) -> None:
    """Raises LocalStackError if the job ended before every kill had its turn."""
    missing = plan.faults[len(plan.kills) :]
    if missing:
        names = " and the ".join(fault.target for fault in missing)
        raise LocalStackError(f"The job ended before the {names} could be killed; nothing is proved.")
