"""The tables, which state their own rules: the database refuses a row that the state machine forbids."""

from models.columns import metadata
from models.tables.datasets import datasets
from models.tables.fleet import workers
from models.tables.history import attempts, checkpoints, drills, epoch_metrics, events, step_metrics
from models.tables.jobs import jobs
from models.tables.keys import api_keys
from models.tables.listing import deleted_jobs, job_metadata
from models.tables.requests import idempotency_keys
from models.tables.stream import stream
from models.tables.webhooks import webhook_deliveries, webhooks

__all__ = [
    "api_keys", "attempts", "checkpoints", "datasets", "deleted_jobs", "drills", "epoch_metrics", "events",
    "idempotency_keys", "job_metadata", "jobs", "metadata", "step_metrics", "stream", "webhook_deliveries",
    "webhooks", "workers",
]  # fmt: skip
