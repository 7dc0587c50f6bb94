"""The shapes of what the service answers; with the specs of ``models`` they are the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from models.job_state import EndCause, Fault, JobStatus
from models.webhooks.messages import Topic

T = TypeVar("T")


class Answer(BaseModel):
    """The root of every answer; rows of the database are read by attribute."""

    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null", protected_namespaces=())


class Page(Answer, Generic[T]):
    """A part of a list; `after=<last_id>` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    last_id: str | int | None = Field(description="Null for an empty page.")


class Progress(Answer):
    """How far the surviving work has come."""

    phase: str | None = Field(description="What the trainer is doing; null while none runs.")
    phase_done: int = Field(description="The phase's own count: files, batches or bytes.")
    phase_total: int
    epoch: int = Field(description="The epoch that is worked on while running, else the last finished one.")
    epochs_done: int
    epochs: int
    step: int
    steps: int | None = Field(description="Null until the dataset was counted.")
    percent: float


class Best(Answer):
    """The epoch of the lowest validation loss so far."""

    epoch: int
    val_loss: float | None
    val_accuracy: float | None
    checkpoint_id: str | None


class ResumePoint(Answer):
    """The checkpoint that the next attempt begins from."""

    checkpoint_id: str
    epoch: int
    step: int


class JobError(Answer):
    code: str
    message: str | None


class JobBody(Answer):
    """A job as it stands."""

    object: Literal["job"] = "job"
    id: str | None = Field(description="Null in the answer to a dry run.")
    name: str | None
    status: JobStatus
    status_reason: str | None = Field(
        description="For a queued job: why it waits. For a running one: what was asked."
    )
    queue_position: int | None = Field(
        description="1 would be claimed next by a worker that may take it; null beyond the first 1 000 and "
        "for jobs that are not queued."
    )
    priority: int
    attempt: int
    recoveries: int = Field(description="How often the job went on after losing its trainer or its worker.")
    worker_id: str | None
    cancel_requested: bool
    pause_requested: bool
    exact: bool = Field(description="Whether the weights are those of an undisturbed run, to the last bit.")
    inexact_reasons: list[str]
    numerics: dict[str, Any] | None = Field(description="What decides the bits; resolved at the first claim.")
    progress: Progress
    estimated_finish: datetime | None
    goodput: float | None = Field(
        description="Seconds of surviving epochs ÷ seconds since the first claim, pauses excluded."
    )
    best: Best | None
    resume_from: ResumePoint | None
    error: JobError | None
    weights_sha256: str | None = Field(description="Of the last epoch's weights, once the job succeeded.")
    parent_id: str | None
    dataset: dict[str, Any] | None = Field(description="What the first attempt found: classes and counts.")
    segments: list[dict[str, Any]] = Field(
        description="Runs of epochs, each with a learning-rate schedule of its own."
    )
    spec: dict[str, Any]
    metadata: dict[str, str]
    created_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None = Field(description="The first claim.")
    finished_at: datetime | None
    links: dict[str, str]


class SubmittedJob(JobBody):
    """The answer to a submission."""

    warnings: list[str] = Field(description="What is allowed but may not be meant.")


class EpochMetrics(Answer):
    """One row per epoch, whatever crashed. Losses are means over samples, accuracies 0 to 1."""

    epoch: int
    step: int
    attempt: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    images_per_second: float | None
    duration_seconds: float | None
    recorded_at: datetime


class StepMetrics(Answer):
    """One row per optimizer step; ``step`` counts from 1 over the whole job."""

    step: int
    epoch: int
    attempt: int
    loss: float | None = Field(description="Null where it was not finite.")
    learning_rate: float
    recorded_at: datetime


class JobEvent(Answer):
    """A line of the audit trail."""

    sequence: int
    type: str
    attempt: int
    message: str
    data: dict[str, Any]
    created_at: datetime


class Attempt(Answer):
    """A line of the ledger: who ran the job, from where, and why that ended."""

    attempt: int
    worker_id: str
    worker_pid: int
    trainer_pid: int | None
    host: str
    device: str
    from_checkpoint: str | None
    started_at: datetime
    first_step_at: datetime | None
    ended_at: datetime | None
    end_cause: EndCause | None
    end_detail: str | None
    detection_seconds: float | None
    restart_seconds: float | None
    steps_redone: int
    exact: bool = Field(description="Whether it computed as the attempt before it did.")
    inexact_reasons: Annotated[list[str], BeforeValidator(lambda stored: stored or [])]
    drill: str | None = Field(description="The drill that was to end it; such an end spends no budget.")


class DrillBody(Answer):
    """A fault that was asked for, and what it cost by the ledger of attempts."""

    object: Literal["drill"] = "drill"
    id: str
    job_id: str
    fault: Fault
    status: Literal["requested", "dropped", "recovering", "recovered", "not_recovered"]
    requested_at: datetime
    attempt: int | None = Field(description="The one that it hit.")
    carried_out_at: datetime | None = Field(description="Recorded by the worker right before it did it.")
    checkpoint_id: str | None = Field(description="Of `corrupt_checkpoint`: the one that was damaged.")
    detected_seconds: float | None = Field(description="Until the end of the attempt was noticed.")
    running_again_seconds: float | None = Field(
        description="Until a later attempt did its first step, or finished the job; also since the fault."
    )
    steps_redone: int | None
    exact: bool | None = Field(description="Whether the attempts since compute as those before.")
    recovered: bool = Field(description="A step was done again.")


class Checkpoint(Answer):
    """A recorded checkpoint; size and hash describe the stored file."""

    id: str
    epoch: int
    step: int
    attempt: int
    size_bytes: int
    sha256: str
    path: str
    status: Literal["committed", "quarantined", "pruned"]
    val_loss: float | None
    created_at: datetime


class Preprocessing(Answer):
    """From an RGB image to what the network sees: resize, crop the centre, scale to 0 to 1, normalise."""

    resize_shorter_side: int
    interpolation: Literal["bilinear"] = "bilinear"
    center_crop: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ModelManifest(Answer):
    """What is needed to use a trained model."""

    object: Literal["model"] = "model"
    job_id: str
    checkpoint: Checkpoint
    arch: str
    dropout: float
    image_size: int
    classes: list[str] | None
    preprocessing: Preprocessing
    weights_sha256: str | None = Field(description="Known for the last checkpoint of a job that succeeded.")
    links: dict[str, str]


class WorkerBody(Answer):
    """A worker process: one per device slot."""

    id: str
    status: Literal["online", "draining", "quarantined", "stopped", "lost"]
    status_reason: str | None = Field(description="Why it is quarantined.")
    device: str
    slot: str
    threads: int
    host: str
    pid: int
    version: str
    job_id: str | None
    started_at: datetime
    heartbeat_at: datetime
    heartbeat_age_seconds: float


class WebhookBody(Answer):
    """An address that is told what happens to jobs."""

    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    events: list[Topic] = Field(validation_alias="topics")
    description: str
    disabled_reason: str | None = Field(description="Why it is told nothing any more; null while it is.")
    created_at: datetime


class NewWebhook(WebhookBody):
    """A webhook with what its receiver verifies signatures with."""

    secret: str = Field(description="Shown this once.", examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


class DeliveryBody(Answer):
    """One message, and what became of it so far."""

    object: Literal["delivery"] = "delivery"
    id: str = Field(description="The `webhook-id` that the receiver sees, at every try.")
    webhook_id: str
    job_id: str
    event: Topic = Field(validation_alias="topic")
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    next_attempt_at: datetime | None = Field(description="Null unless pending.")
    last_attempt_at: datetime | None
    last_status_code: int | None = Field(description="What the receiver answered; null if it did not.")
    last_error: str | None
    delivered_at: datetime | None
    created_at: datetime
