"""What the server answers with, as pydantic models.

Fields that a newer server adds are kept (``extra="allow"``), fields that an older one lacks read as ``None``.
"""

from datetime import datetime
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from perdure.errors import ForeignAnswerError

#: A job in one of these states changes only by a request.
FINISHED = frozenset({"succeeded", "failed", "cancelled"})
#: A job in one of these states is not worked on: what ``wait`` and ``watch`` end at.
AT_REST = FINISHED | {"paused"}


class Answer(BaseModel):
    """The root of every model here."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), serialize_by_alias=True, validate_by_name=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _as_a_server_says_it(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(value)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, entry["loc"])) for entry in error.errors())
            raise ForeignAnswerError(
                f"An answer with a wrong {cls.__name__} ({fields or 'all of it'})"
            ) from error


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


class Model(Answer):
    """What one needs to know to use a trained model."""

    job_id: str
    checkpoint: Checkpoint
    arch: str
    dropout: float | None = None
    image_size: int | None = None
    classes: list[str] | None = None  #: in the order of the outputs
    preprocessing: dict[str, Any] = {}
    weights_sha256: str | None = None


class ClassProbability(Answer):
    """A class, and how sure the model is of it."""

    name: str = Field(alias="class")
    index: int | None = None  #: its place among the job's classes
    probability: float


class Prediction(Answer):
    """What a model sees in an image: the likeliest classes, the likeliest first."""

    job_id: str
    checkpoint_id: str | None = None
    epoch: int | None = None
    predictions: list[ClassProbability]


class ComparedJob(Answer):
    """One of several jobs, and its results."""

    id: str
    name: str | None = None
    status: str
    exact: bool | None = None
    epochs_done: int = 0
    best: Best | None = None
    last: EpochMetrics | None = None
    weights_sha256: str | None = None


class Difference(Answer):
    """A field in which specs differ, with one value for each job."""

    field: str
    values: list[Any]


class ComparedEpoch(Answer):
    """An epoch of several jobs; None for those that have not done it."""

    epoch: int
    metrics: list[EpochMetrics | None]


class Comparison(Answer):
    """Jobs side by side; every list is in the order of ``jobs``."""

    jobs: list[ComparedJob]
    spec: list[Difference] = []
    same_dataset: bool | None = None
    same_weights: bool | None = None  #: bit for bit; None until all of them succeeded
    epochs: list[ComparedEpoch] = []
    has_more: bool = False
    last_id: int | None = None


class Event(Answer):
    """One line of a job's audit trail."""

    sequence: int | None = None
    type: str
    attempt: int | None = None
    message: str | None = None
    data: dict[str, Any] | None = None
    created_at: datetime | None = None


class Worker(Answer):
    """One device slot of the fleet."""

    id: str
    host: str | None = None
    pid: int | None = None
    device: str | None = None
    threads: int | None = None
    status: str | None = None
    status_reason: str | None = None
    job_id: str | None = None
    heartbeat_at: datetime | None = None
    heartbeat_age_seconds: float | None = None


class Webhook(Answer):
    """An address that is told what happens to jobs."""

    id: str
    url: str
    events: list[str] = []
    description: str = ""
    disabled_reason: str | None = None
    secret: str | None = None  #: in the answer to its creation alone
    created_at: datetime | None = None


class Delivery(Answer):
    """One message to a webhook, and what became of it so far."""

    id: str
    webhook_id: str | None = None
    job_id: str | None = None
    event: str | None = None
    status: str | None = None  #: pending, delivered or failed
    attempts: int = 0
    next_attempt_at: datetime | None = None
    last_attempt_at: datetime | None = None
    last_status_code: int | None = None
    last_error: str | None = None
    delivered_at: datetime | None = None
    created_at: datetime | None = None


class Dataset(Answer):
    """A registered dataset; jobs may name it by its id once it is ready."""

    id: str
    name: str | None = None
    status: str  #: checking, ready or failed
    status_reason: str | None = None
    source: str | None = None  #: upload or path
    path: str | None = None
    classes: list[str] | None = None
    counts: dict[str, dict[str, int]] | None = None  #: images by split and class
    num_images: int | None = None
    image_sizes: dict[str, int] | None = None
    size_bytes: int | None = None
    digest: str | None = None
    problems: list[dict[str, str]] = []  #: files that cannot be read: `file` and `message`
    num_problems: int = 0
    error: JobError | None = None
    progress: dict[str, int] | None = None
    created_at: datetime | None = None
    checked_at: datetime | None = None


class Key(Answer):
    """An API key; ``key`` is its text, which only the answer that made it has."""

    id: str
    name: str | None = None
    tenant_id: str | None = None
    scopes: list[str] = []
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = Field(default=None, repr=False)


class Page(Answer):
    """One page of a list; ``last_id`` is the ``after`` of the next."""

    data: list[dict[str, Any]]
    has_more: bool = False
    last_id: str | int | None = None
