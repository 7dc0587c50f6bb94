"""What surrounds the jobs: workers, webhooks, datasets, keys."""

from datetime import datetime

from pydantic import Field

from perdure.types.answer import Answer
from perdure.types.jobs import JobError


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
    source: str | None = None  #: upload, path or builtin
    path: str | None = None
    builtin: str | None = None  #: which of torchvision's own it is
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
