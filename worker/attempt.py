"""One trainer's life as it is followed: its words become fenced rows, in the order that they were said."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable, StorageFailed
from models.identifiers import new_id
from models.job_state import EventType, Fault, Phase
from models.job_store import Fence, Position, Requests
from models.job_store.fence import JobRow
from models.storage import Storage
from worker.lease import Lease
from worker.messages import (
    CheckpointDelayed,
    CheckpointRejected,
    CheckpointWritten,
    DatasetChecked,
    Failed,
    Finished,
    FromTrainer,
    FrozenPartRebuilt,
    Heartbeat,
    Parked,
    Prepared,
    Progress,
    ResumeVerified,
    Slot,
    StepDone,
    StepMetrics,
    StepRow,
    Stopped,
)
from worker.rows import checkpoint_row, epoch_row, step_rows
from worker.stall_watch import StallWatch
from worker.sweep import sweep
from worker.trainer_process import TrainerProcess

_log = structlog.get_logger()
T = TypeVar("T")

FLUSH_SECONDS = 1.0
#: So long a database may be away before the attempt is given up; the trainer is parked meanwhile.
DATABASE_PATIENCE_SECONDS = 600.0

Verdict = Finished | Stopped | Failed


@dataclass
class Attempt:
    """What is known of the attempt under way."""

    db: Database
    storage: Storage
    fence: Fence
    job: JobRow
    slot: Slot
    watch: StallWatch
    hurry: threading.Event  #: set when the worker has no time left to wait for a database
    lease: Lease | None = None
    trainer: TrainerProcess | None = None
    phase: str = str(Phase.STARTING)
    done: int = 0
    total: int = 0
    step: int | None = None  #: None until the trainer says where it begins
    epochs_done: int = 0
    did_steps: bool = False
    verdict: Verdict | None = None
    drill: str | None = None  #: the last one that was heard of
    fault: Fault | None = None  #: what that drill broke
    last_heard_at: float = field(default_factory=time.monotonic)
    renewed_at: float = 0.0  #: boot time from before the last renewal that was granted
    _step_rows: list[StepRow] = field(default_factory=list)
    _changed: bool = False
    _swept: bool = False
    _parked_at: float = 0.0
    _flushed_at: float = field(default_factory=time.monotonic)

    def handle(self, message: FromTrainer) -> None:
        """Take note of one message. Raises LeaseLost, DatabaseUnavailable after long patience."""
        now = self.last_heard_at = time.monotonic()
        match message:
            case Progress():
                self.watch.progressed(message.phase, now)
                self.phase, self.done, self.total = message.phase, message.done, message.total
                self._changed = True
            case StepDone():
                self.watch.progressed(Phase.TRAINING, now)
                self._step_done(message)
            case StepMetrics():
                self._step_rows += message.rows
            case CheckpointWritten():
                self._commit(message)
            case CheckpointDelayed():
                self.watch.progressed(self.phase, now)
                self._delayed(message)
            case Prepared():
                self._prepared(message)
            case Parked():
                self._parked(message, now)
            case Finished() | Stopped() | Failed():
                self.verdict = message
            case _:
                self._note(message)

    def pass_on_heartbeat(self, at: float) -> None:
        """From the lease's thread: a renewal that was sent at ``at`` has been granted."""
        self.renewed_at = at
        self.watch.reassured(time.monotonic())
        if self.trainer is not None:
            self.trainer.send(Heartbeat(at))

    def attend(self, trainer: TrainerProcess) -> None:
        """Follow this trainer from here on."""
        self.trainer = trainer
        self.pass_on_heartbeat(self.renewed_at)  # a renewal may have been granted before it was there

    def flush(self, *, now: float) -> None:
        """Progress and step rows, at most once a second."""
        if now - self._flushed_at < FLUSH_SECONDS or not (self._changed or self._step_rows):
            return
        position = Position(self.phase, self.done, self.total, self.step, self.epochs_done)
        rows = self._take_step_rows()
        if rows:
            asked = self.persist(lambda: job_store.record_metrics(self.db, self.fence, rows, position))
        else:
            asked = self.persist(lambda: job_store.record_progress(self.db, self.fence, position))
        self._heard(asked)
        self._changed = False
        self._flushed_at = now

    def _step_done(self, message: StepDone) -> None:
        self.step, self.epochs_done = message.step, message.epoch - 1
        self.phase, self.done = str(Phase.TRAINING), message.step
        self.total = self.job.steps or self.total
        self._changed = True
        if not self.did_steps:
            self.did_steps = True
            self.persist(lambda: job_store.first_step(self.db, self.fence))

    def _parked(self, message: Parked, now: float) -> None:
        """Recorded when it is over: while it lasts, there is usually no database to record it in."""
        self.watch.suspend(message.parked, now)
        _log.warning("trainer.parked", job_id=self.fence.job_id, parked=message.parked)
        if message.parked:
            self._parked_at = now
            return
        seconds = now - self._parked_at
        self._tell(
            EventType.PARKED,
            f"Waited {seconds:.1f} s for the lease to be confirmed, then went on.",
            seconds=seconds,
        )

    def _prepared(self, message: Prepared) -> None:
        self.step, self.epochs_done, self.total = message.step, message.epochs_done, message.steps
        self.persist(
            lambda: job_store.prepared(
                self.db,
                self.fence,
                slot=self.slot.key,
                numerics=message.numerics,
                fingerprint=message.fingerprint,
                inexact_reasons=message.inexact_reasons,
                from_checkpoint=message.from_checkpoint,
                epochs_done=message.epochs_done,
                step=message.step,
                steps=message.steps,
            )
        )

    def _commit(self, written: CheckpointWritten) -> None:
        """Record the checkpoint and seal the metrics up to its step; then let go of what retention drops."""
        rows = self._take_step_rows()
        self.epochs_done = max(self.epochs_done, written.epochs_done)
        committed = self.persist(
            lambda: job_store.commit_checkpoint(
                self.db,
                self.fence,
                checkpoint_row(written),
                step_rows=rows,
                epoch_rows=[epoch_row(row) for row in written.epochs],
                epochs_done=written.epochs_done,
                keep_last=self.job.spec["fault_tolerance"]["keep_last"],
                stall_seconds=written.stall_seconds,
                write_seconds=written.write_seconds,
            )
        )
        self._heard(committed.requests)
        # Only after the commit: a crash in between leaves unrecorded files, never a record without a file.
        for path in committed.pruned_paths:
            with contextlib.suppress(OSError, StorageFailed):  # then it is left for a sweep
                self.storage.delete(path)
        if not self._swept:  # once an attempt: what its predecessors left is all there by now
            self._swept = True
            self.sweep()

    def sweep(self, *, own: bool = False) -> None:
        """Clear away files of this job that nothing refers to; with ``own``, of an attempt that is over."""
        recorded = self.persist(lambda: job_store.recorded_files(self.db, self.fence))
        sweep(self.storage, self.fence.job_id, recorded, before_attempt=self.fence.attempt + own)

    def _delayed(self, message: CheckpointDelayed) -> None:
        _log.warning("checkpoint.delayed", job_id=self.fence.job_id, reason=message.reason)
        self._tell(
            EventType.CHECKPOINT_DELAYED,
            f"{message.reason} Tried again in {message.retry_seconds:g} s.",
            retry_seconds=message.retry_seconds,
        )
        if self.storage.free_bytes() is not None:  # no room is made in a store that has no end
            self.sweep()

    def _note(self, message: FromTrainer) -> None:
        match message:
            case DatasetChecked():
                found = {
                    "digest": message.digest, "classes": message.classes,
                    "num_train": message.num_train, "num_val": message.num_val,
                }  # fmt: skip
                self.persist(
                    lambda: job_store.dataset_checked(self.db, self.fence, message.manifest_path, found)
                )
            case CheckpointRejected():
                self.persist(
                    lambda: job_store.reject_checkpoint(
                        self.db, self.fence, message.checkpoint_id, message.reason
                    )
                )
            case FrozenPartRebuilt():
                self._tell(
                    EventType.FROZEN_PART_REBUILT,
                    f"The frozen part was made again from the first weights, since {message.reason}.",
                    path=message.path,
                )
            case ResumeVerified():
                verdict = "equal" if message.equal else "different"
                self._tell(
                    EventType.RESUME_VERIFIED,
                    f"Validation loss {message.recorded!r} then, {message.recomputed!r} now: {verdict}.",
                    checkpoint_id=message.checkpoint_id,
                    recorded=message.recorded,
                    recomputed=message.recomputed,
                    equal=message.equal,
                )
            case _:
                raise TypeError(f"a trainer does not say {type(message).__name__}")

    def _tell(self, kind: EventType, message: str, **data: Any) -> None:
        """In the job's trail, once, however often it has to be written."""
        key = new_id("evt")
        self.persist(lambda: job_store.record_event(self.db, self.fence, key, kind, message, **data))

    def _take_step_rows(self) -> list[dict[str, Any]]:
        rows = step_rows(self._step_rows)
        self._step_rows.clear()
        return rows

    def _heard(self, requests: Requests) -> None:
        if self.lease is not None:
            self.lease.heard(requests)

    def persist(self, write: Callable[[], T]) -> T:
        """Write in spite of a database that comes and goes. Every write is fenced and repeatable.

        The trainer goes on meanwhile until its pipe is full or its lease unconfirmed; then it parks.
        """
        give_up_at = time.monotonic() + DATABASE_PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                return write()
            except DatabaseUnavailable as error:
                _log.warning("database.away", job_id=self.fence.job_id, error=error.reason)
                if time.monotonic() > give_up_at or self.hurry.wait(pause * random.uniform(0.5, 1.5)):
                    raise
                pause = min(2.0, 2 * pause)
