"""A job as it stands."""

from datetime import datetime
from typing import Any

from perdure.types.answer import Answer

#: A job in one of these states changes only by a request.
FINISHED = frozenset({"succeeded", "failed", "cancelled"})
#: A job in one of these states is not worked on: what ``wait`` and ``watch`` end at.
AT_REST = FINISHED | {"paused"}


class Progress(Answer):
    """How far the surviving work of a job has come."""

    phase: str | None = None
    phase_done: int = 0  #: the phase's own count: files, batches or bytes
    phase_total: int = 0
    epoch: int | None = None  #: the one that is worked on while running, else the last finished one
    epochs_done: int = 0
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    percent: float | None = None


class Best(Answer):
    """The epoch of the lowest validation loss so far."""

    epoch: int | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    checkpoint_id: str | None = None


class JobError(Answer):
    """Why a job failed: a stable code and a sentence."""

    code: str
    message: str | None = None


class ResumePoint(Answer):
    """The checkpoint that the next attempt begins from."""

    checkpoint_id: str
    epoch: int | None = None
    step: int | None = None


class Job(Answer):
    """A job as the server shows it."""

    id: str
    name: str | None = None
    status: str
    status_reason: str | None = None
    queue_position: int | None = None
    priority: int = 0
    attempt: int = 0
    recoveries: int = 0
    exact: bool | None = None
    inexact_reasons: list[str] = []
    numerics: dict[str, Any] | None = None
    progress: Progress | None = None
    estimated_finish: datetime | None = None
    goodput: float | None = None
    best: Best | None = None
    resume_from: ResumePoint | None = None
    error: JobError | None = None
    weights_sha256: str | None = None
    parent_id: str | None = None
    spec: dict[str, Any] = {}
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: dict[str, str] = {}
    links: dict[str, str] = {}
    warnings: list[str] = []  #: in the answer to a submission: what is allowed but may not be meant

    @property
    def is_finished(self) -> bool:
        """Succeeded, failed or cancelled."""
        return self.status in FINISHED


class JobStatus(Answer):
    """A change of a job's status, or of what was asked of it."""

    status: str
    final: bool = False  #: finished: nothing follows, unless somebody asks for it
    attempt: int = 0
    recoveries: int = 0
    cancel_requested: bool = False
    pause_requested: bool = False
    error: JobError | None = None
    weights_sha256: str | None = None
    recorded_at: datetime | None = None
    job: Job | None = None  #: in the first event of a stream that began without a number
