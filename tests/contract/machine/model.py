"""What the state machine believes of each job: a job store in plain Python, that nothing can interrupt."""

import random
from dataclasses import dataclass, field
from typing import Any

from models.job_state import FINISHED, JobStatus
from models.job_store import Fence
from models.job_store.endings import MAX_LOSSES
from tests.contract.world import epoch_row, step_row

STEPS_PER_EPOCH = 3


@dataclass
class ModelCheckpoint:
    """A recorded file, and which attempt trained each step and epoch of its weights."""

    id: str
    path: str
    epoch: int
    step: int
    attempt: int
    val_loss: float | None
    epochs_done: int
    trained: dict[int, int]
    ended: dict[int, int]
    status: str = "committed"
    damaged: bool = False


@dataclass
class Draft:
    """A file that is written and not recorded yet, with the epochs that it would seal."""

    checkpoint: ModelCheckpoint
    epoch_rows: list[dict[str, Any]]


@dataclass
class ModelJob:
    id: str
    number: int
    device_class: str
    priority: int
    tenant: str
    max_failures: int
    keep_last: int
    waits: bool  #: for a worker of equal numerics
    epochs: int
    stops_after: int | None  #: the epoch after which early stopping ends it
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    recoveries: int = 0
    cancel: bool = False
    pause: bool = False
    step: int = 0
    epochs_done: int = 0
    highest: int = 0
    slot: str | None = None  #: of the numerics
    last_slot: str | None = None  #: of the fingerprint
    reasons: list[str] = field(default_factory=list)
    overdue: bool = False  #: its worker is silent past the lease, dead, or from before a reboot
    revivable: bool = True  #: whether a renewal would make up for that
    redone: dict[int, int] = field(default_factory=dict)  #: by attempt
    checkpoints: list[ModelCheckpoint] = field(default_factory=list)
    steps: dict[int, tuple[int, float]] = field(default_factory=dict)  #: attempt and loss of each row
    ends: dict[int, tuple[int, float]] = field(default_factory=dict)  #: the same of epochs
    best_epoch: int | None = None
    best_checkpoint: ModelCheckpoint | None = None
    _sealed_by: dict[int, ModelCheckpoint | None] = field(default_factory=dict)

    @property
    def usable(self) -> list[ModelCheckpoint]:
        """Newest first."""
        committed = [c for c in self.checkpoints if c.status == "committed"]
        return sorted(committed, key=lambda c: (c.step, c.id), reverse=True)

    @property
    def committed_step(self) -> int:
        return max((c.step for c in self.usable), default=0)

    def may_go_to(self, device: str, slot: str) -> bool:
        fits = self.device_class in {"any", device}
        exact = self.slot in {None, slot} or not self.waits
        return self.status == JobStatus.QUEUED and fits and exact

    def differences(self, slot: str) -> list[str]:
        """Why an attempt there would not compute what the one before did."""
        return [] if self.last_slot in {None, slot} else [f"{self.last_slot} → {slot}"]

    # -- What workers do -------------------------------------------------------------------------

    def claimed(self) -> None:
        self.status = JobStatus.RUNNING
        self.attempt += 1
        self.overdue, self.revivable = False, True

    def prepared(self, slot: str, base: ModelCheckpoint | None) -> None:
        step = base.step if base else 0
        self.redone[self.attempt] = max(0, self.step - step)
        self.reasons += [reason for reason in self.differences(slot) if reason not in self.reasons]
        self.slot, self.last_slot = self.slot or slot, slot
        self.step, self.epochs_done = step, base.epochs_done if base else 0

    def put(self, rows: list[dict[str, Any]]) -> None:
        self.steps |= {row["step"]: (self.attempt, row["loss"]) for row in rows}

    def committed(self, draft: Draft) -> list[ModelCheckpoint]:
        """What retention lets go."""
        new = draft.checkpoint
        if new.step > self.highest:
            self.highest, self.failures, self.losses = new.step, 0, 0
        self.step, self.epochs_done = max(self.step, new.step), max(self.epochs_done, new.epochs_done)
        self.checkpoints.append(new)
        for row in draft.epoch_rows:
            self.ends[row["epoch"]] = (self.attempt, row["val_loss"])
            self._sealed_by[row["epoch"]] = new if row["epoch"] == new.epoch else None
        if draft.epoch_rows:
            self._rank()
        surplus = [c for c in self.usable[self.keep_last :] if c is not self.best_checkpoint]
        for checkpoint in surplus:
            checkpoint.status = "pruned"
        return surplus

    def _rank(self) -> None:
        """The best of the rows that there are."""
        best = min(self.ends, key=lambda epoch: (self.ends[epoch][1], epoch), default=None)
        found = None if best is None else self._sealed_by[best]
        self.best_epoch = best
        self.best_checkpoint = found if found and found.status != "pruned" else None

    def finished(self) -> None:
        """Rows beyond the weights that survive belong to nothing."""
        final = self.committed_step
        self.steps = {step: row for step, row in self.steps.items() if step <= final}
        self.ends = {epoch: row for epoch, row in self.ends.items() if epoch * STEPS_PER_EPOCH <= final}
        self._rank()
        self.leave(JobStatus.SUCCEEDED)

    def settled(self, otherwise: JobStatus) -> JobStatus:
        if self.cancel:
            return JobStatus.CANCELLED
        return JobStatus.PAUSED if self.pause else otherwise

    def leave(self, to: JobStatus) -> None:
        self.status = to
        self.cancel = self.pause = self.overdue = False

    def lost(self) -> None:
        """The worker is gone."""
        self.losses += 1
        to = self.settled(JobStatus.FAILED if self.losses >= MAX_LOSSES else JobStatus.QUEUED)
        self.recoveries += to == JobStatus.QUEUED
        self.leave(to)

    def trainer_died(self, step: int | None) -> JobStatus:
        """Where the job goes; ``running`` under the next attempt if it stays."""
        self.failures += 1
        self.step = self.step if step is None else step
        to = self.settled(JobStatus.FAILED if self.failures >= self.max_failures else JobStatus.RUNNING)
        if to == JobStatus.RUNNING:
            self.recoveries += 1
            self.claimed()
        else:
            self.leave(to)
        return to

    # -- What users ask --------------------------------------------------------------------------

    def asked(self, request: str) -> bool:
        """Whether it is granted; its effect is here then."""
        match request, self.status:
            case "cancel", JobStatus.RUNNING:
                self.cancel = True
            case "pause", JobStatus.RUNNING:
                self.pause = True
            case "resume", JobStatus.RUNNING if self.pause:
                self.pause = False
            case "cancel", JobStatus.QUEUED | JobStatus.PAUSED | JobStatus.CANCELLED:
                self.status = JobStatus.CANCELLED
            case "pause", JobStatus.QUEUED | JobStatus.PAUSED:
                self.status = JobStatus.PAUSED
            case "resume", JobStatus.PAUSED:
                self.status = JobStatus.QUEUED
            case "retry", JobStatus.FAILED | JobStatus.CANCELLED:
                self.status, self.failures, self.losses = JobStatus.QUEUED, 0, 0
            case "extend", JobStatus.SUCCEEDED:
                self.status, self.failures, self.losses = JobStatus.QUEUED, 0, 0
                self.epochs, self.stops_after = self.epochs_done + 1, None
            case _:
                return False
        return True

    @property
    def is_settled(self) -> bool:
        return self.status in FINISHED or self.status == JobStatus.PAUSED


@dataclass
class Holder:
    """A worker that holds a job, and how far its trainer is."""

    fence: Fence
    job: ModelJob
    slot: str
    refs: list[ModelCheckpoint]  #: that a resume may load, newest first
    is_prepared: bool = False
    step: int = 0
    epochs_done: int = 0
    saved_step: int = 0  #: of the newest state that was written
    draft: Draft | None = None
    trained: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    unsent: list[dict[str, Any]] = field(default_factory=list)
    unsealed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def base(self) -> ModelCheckpoint | None:
        return self.refs[0] if self.refs else None

    @property
    def last_epoch(self) -> int:
        """Other numerics come to other losses, which may not let the job stop early."""
        stops_after = self.job.stops_after if self.slot == self.job.slot else None
        return min(self.job.epochs, stops_after or self.job.epochs)

    @property
    def is_done(self) -> bool:
        return self.is_prepared and self.epochs_done >= self.last_epoch

    def begin(self) -> None:
        self.is_prepared = True
        if self.base:
            self.step = self.saved_step = self.base.step
            self.epochs_done = self.base.epochs_done
            self.trained, self.ended = dict(self.base.trained), dict(self.base.ended)

    def train(self) -> None:
        """One step, and the end of the epoch if it was the last of one."""
        self.step += 1
        epoch = self.epochs_done + 1
        self.unsent.append(step_row(self.step, loss_of(self, "train", self.step), epoch))
        self.trained[self.step] = self.fence.attempt
        if self.step == epoch * STEPS_PER_EPOCH:
            self.epochs_done = epoch
            self.ended[epoch] = self.fence.attempt
            self.unsealed.append(epoch_row(epoch, self.step, loss_of(self, "val", epoch)))

    def write(self, identifier: str) -> Draft:
        """The state as a file."""
        ends_epoch = self.step == self.epochs_done * STEPS_PER_EPOCH
        epoch = self.epochs_done + (not ends_epoch)
        name = f"epoch-{epoch:04d}.step-{self.step:06d}.attempt-{self.fence.attempt}.{identifier}.pth"
        checkpoint = ModelCheckpoint(
            identifier, f"jobs/{self.job.id}/checkpoints/{name}", epoch, self.step, self.fence.attempt,
            loss_of(self, "val", epoch) if ends_epoch else None, self.epochs_done,
            dict(self.trained), dict(self.ended),
        )  # fmt: skip
        self.draft = Draft(checkpoint, self.unsealed)
        self.saved_step, self.unsealed = self.step, []
        return self.draft


def loss_of(holder: Holder, kind: str, number: int) -> float:
    """The same whenever it is computed with the same numerics; few values, so that some are equal."""
    return random.Random(f"{holder.job.number}/{kind}/{number}/{holder.slot}").randrange(1, 5) / 8
