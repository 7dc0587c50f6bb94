"""What happened to a job: metrics, attempts, drills, checkpoints, events."""

from datetime import datetime
from typing import Any

from perdure.types.answer import Answer


class EpochMetrics(Answer):
    """One epoch: losses are means over samples, accuracies 0 to 1."""

    epoch: int
    step: int | None = None
    attempt: int | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    duration_seconds: float | None = None
    recorded_at: datetime | None = None


class StepMetrics(Answer):
    """One optimizer step; ``step`` is 1-based over the whole job."""

    step: int
    epoch: int | None = None
    attempt: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    recorded_at: datetime | None = None


class StepBatch(Answer):
    """Steps that were done since the batch before; steps that were told before are replaced."""

    step: int  #: the last one
    epoch: int | None = None
    attempt: int | None = None
    recorded_at: datetime | None = None
    rows: list[StepMetrics] = []


class Attempt(Answer):
    """One line of the ledger: who ran the job, from where, and why that ended."""

    attempt: int
    worker_id: str | None = None
    worker_pid: int | None = None
    trainer_pid: int | None = None
    host: str | None = None
    device: str | None = None
    from_checkpoint: str | None = None
    started_at: datetime | None = None
    first_step_at: datetime | None = None
    ended_at: datetime | None = None
    end_cause: str | None = None
    end_detail: str | None = None
    detection_seconds: float | None = None
    restart_seconds: float | None = None
    steps_redone: int | None = None
    exact: bool | None = None
    inexact_reasons: list[str] = []
    drill: str | None = None


class Drill(Answer):
    """A fault that was asked for, and what it cost; durations count from when it was carried out."""

    id: str
    job_id: str | None = None
    fault: str
    status: str | None = None  #: requested, recovering, recovered, not_recovered or dropped
    requested_at: datetime | None = None
    attempt: int | None = None
    carried_out_at: datetime | None = None
    checkpoint_id: str | None = None
    detected_seconds: float | None = None
    running_again_seconds: float | None = None
    steps_redone: int | None = None
    exact: bool | None = None
    recovered: bool = False

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return self.status not in {"requested", "recovering"}


class Checkpoint(Answer):
    """A recorded checkpoint; size and hash describe the stored file."""

    id: str
    epoch: int | None = None
    step: int | None = None
    attempt: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    path: str | None = None
    status: str | None = None
    val_loss: float | None = None
    created_at: datetime | None = None


class Event(Answer):
    """One line of a job's audit trail."""

    sequence: int | None = None
    type: str
    attempt: int | None = None
    message: str | None = None
    data: dict[str, Any] | None = None
    created_at: datetime | None = None
