"""The tables, which state their own rules: the database refuses a row that the state machine forbids."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
    true,
)

from models.columns import Id, Instant, Json, metadata, one_of
from models.dataset_tables import datasets
from models.job_state import FINISHED, EndCause, Fault, JobStatus
from models.key_tables import api_keys
from models.stream_table import stream
from models.tables_beside_jobs import deleted_jobs, job_metadata

__all__ = [
    "api_keys", "attempts", "checkpoints", "datasets", "deleted_jobs", "drills", "epoch_metrics", "events",
    "idempotency_keys", "job_metadata", "jobs", "metadata", "step_metrics", "stream", "webhook_deliveries",
    "webhooks", "workers",
]  # fmt: skip

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False, server_default="default"),
    Column("idempotency_key", String(255)),
    Column("parent_id", Id),
    Column("name", String(200)),
    Column("metadata", Json, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("spec", Json, nullable=False),
    Column("segments", Json, nullable=False),
    Column("device_class", String(16), nullable=False),
    # State
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("recoveries", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),  # since the last progress
    Column("losses", Integer, nullable=False, server_default="0"),  # workers lost since the last progress
    Column("max_failures", Integer, nullable=False),
    Column("max_runtime_seconds", Integer),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("pause_requested", Boolean, nullable=False, server_default=false()),
    Column("verify_next", Boolean, nullable=False, server_default=false()),
    Column("error_code", String(64)),
    Column("error_message", Text),
    # The lease, set exactly while running
    Column("worker_id", Id),
    Column("lease_expires_at", Float),  # seconds on the lease clock
    Column("owner_host", String(255)),
    Column("owner_boot_id", String(64)),
    Column("owner_pid_namespace", String(64)),
    Column("owner_pid", Integer),
    Column("owner_started_at", Float),
    # The last trainer, kept after the lease so that a successor on its host can see it dead first
    Column("trainer_pid", Integer),
    Column("trainer_started_at", Float),
    Column("trainer_boot_id", String(64)),
    Column("trainer_pid_namespace", String(64)),
    # Progress
    Column("phase", String(32)),
    # Bytes of a checkpoint, steps of small batches over many epochs: either may pass 2**31
    Column("phase_done", BigInteger, nullable=False, server_default="0"),
    Column("phase_total", BigInteger, nullable=False, server_default="0"),
    Column("epochs", Integer, nullable=False),
    Column("epochs_done", Integer, nullable=False, server_default="0"),
    Column("step", BigInteger, nullable=False, server_default="0"),
    Column("steps", BigInteger),
    Column("committed_step", BigInteger, nullable=False, server_default="0"),
    Column("highest_committed_step", BigInteger, nullable=False, server_default="0"),
    Column("best_epoch", Integer),
    Column("best_val_loss", Float),
    Column("best_val_accuracy", Float),
    Column("best_checkpoint_id", Id),
    Column("weights_sha256", String(64)),
    # What decides the bits
    Column("numerics", Json),
    Column("numerics_slot", String(255)),
    Column("fingerprint", Json),
    Column("exact", Boolean, nullable=False, server_default=true()),
    Column("inexact_reasons", Json, nullable=False),
    Column("exact_wait_seconds", Integer, nullable=False),
    # The dataset as the first attempt found it
    Column("manifest_path", String(1024)),
    Column("dataset", Json),
    # Instants
    Column("event_count", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("queued_at", Instant, nullable=False),
    Column("exact_until", Float, nullable=False),  # unix seconds; then a worker of other numerics may claim
    Column("first_claimed_at", Instant),
    Column("claimed_at", Instant),
    Column("paused_at", Instant),
    Column("paused_seconds", Float, nullable=False, server_default="0"),
    Column("running_seconds", Float, nullable=False, server_default="0"),
    Column("finished_at", Instant),
    Column("drill_requested", Id),  # the drill that its worker is to carry out
    Column("dataset_id", Id),  # that its spec names; no foreign key, since a finished job may outlive it
    Column("stream_count", Integer, nullable=False, server_default="0"),
    Column("served_at", Instant),  # of the last claim; a restart by its own worker is none
    CheckConstraint(one_of("status", JobStatus), name="status_known"),
    CheckConstraint("(status = 'running') = (worker_id IS NOT NULL)", name="running_has_worker"),
    CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="running_has_lease"),
    CheckConstraint(
        f"({one_of('status', FINISHED)}) = (finished_at IS NOT NULL)", name="finished_has_instant"
    ),
    CheckConstraint("(status = 'paused') = (paused_at IS NOT NULL)", name="paused_has_instant"),
    CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
    CheckConstraint("status <> 'running' OR attempt > 0", name="running_has_attempt"),
    CheckConstraint("highest_committed_step >= committed_step", name="committed_below_highest"),
    CheckConstraint("status <> 'succeeded' OR weights_sha256 IS NOT NULL", name="succeeded_has_weights"),
)
# A lane of the queue after another, each in the order of its claims; one for each class, so that a CPU worker
# does not walk through the jobs that wait for a GPU. The next two say what its lanes and tenants got so far.
_LANE = (jobs.c.device_class, jobs.c.tenant_id, jobs.c.priority)
_QUEUED, _RUNNING = text("status = 'queued'"), text("status = 'running'")
Index("ix_jobs_claimable", *_LANE, jobs.c.id, sqlite_where=_QUEUED, postgresql_where=_QUEUED)
Index("ix_jobs_served", *_LANE, jobs.c.served_at, sqlite_where=text("served_at IS NOT NULL"),
      postgresql_where=text("served_at IS NOT NULL"))  # fmt: skip
Index("ix_jobs_running", jobs.c.tenant_id, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
Index("ix_jobs_leases", jobs.c.lease_expires_at, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
_OF_DATASETS = text("dataset_id IS NOT NULL")
Index("ix_jobs_dataset", jobs.c.dataset_id, sqlite_where=_OF_DATASETS, postgresql_where=_OF_DATASETS)
Index("uq_jobs_idempotency", jobs.c.tenant_id, jobs.c.idempotency_key, unique=True)
# One for each way of listing. They begin with the tenant, as every list does; one that began with the
# status would be taken for the claim, too, which would then sort the whole queue.
Index("ix_jobs_listed", jobs.c.tenant_id, jobs.c.id)
Index("ix_jobs_listed_by_status", jobs.c.tenant_id, jobs.c.status, jobs.c.id)
Index("ix_jobs_listed_by_name", jobs.c.tenant_id, jobs.c.name, jobs.c.id)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker_id", Id, nullable=False),
    Column("worker_pid", Integer, nullable=False),
    Column("trainer_pid", Integer),
    Column("host", String(255), nullable=False),
    Column("device", String(16), nullable=False),
    Column("from_checkpoint", Id),
    Column("started_at", Instant, nullable=False),
    Column("first_step_at", Instant),
    Column("ended_at", Instant),
    Column("end_cause", String(32)),
    Column("end_detail", Text),
    Column("detection_seconds", Float),
    Column("restart_seconds", Float),
    Column("steps_redone", BigInteger, nullable=False, server_default="0"),
    # Whether it computed as the attempt before did, and if not, what was different
    Column("exact", Boolean, nullable=False, server_default=true()),
    Column("inexact_reasons", Json),
    Column("drill", Id),  # the drill that was to end it: whatever did spends no budget
    CheckConstraint(f"end_cause IS NULL OR {one_of('end_cause', EndCause)}", name="end_cause_known"),
    CheckConstraint("(ended_at IS NULL) = (end_cause IS NULL)", name="ended_has_cause"),
    CheckConstraint("steps_redone >= 0", name="steps_redone_counts"),
    Index("ix_attempts_ended_at", "ended_at"),
)

epoch_metrics = Table(
    "epoch_metrics",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("train_loss", Float),
    Column("train_accuracy", Float),
    Column("val_loss", Float),
    Column("val_accuracy", Float),
    Column("learning_rate", Float, nullable=False),
    Column("images_per_second", Float),
    Column("duration_seconds", Float),
    Column("recorded_at", Instant, nullable=False),
    CheckConstraint("epoch >= 1 AND step >= 1", name="counted_from_one"),
)

step_metrics = Table(
    "step_metrics",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("loss", Float),
    Column("is_finite", Boolean, nullable=False),
    Column("learning_rate", Float, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    CheckConstraint("epoch >= 1 AND step >= 1", name="counted_from_one"),
    CheckConstraint("is_finite = (loss IS NOT NULL)", name="null_is_not_finite"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", String(1024), nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("val_loss", Float),
    Column("created_at", Instant, nullable=False),
    # The tensors that never change, stored once a job; NULL where the file holds everything
    Column("frozen_path", String(1024)),
    Column("frozen_sha256", String(64)),
    Column("frozen_size_bytes", BigInteger),
    CheckConstraint(one_of("status", ["committed", "quarantined", "pruned"]), name="status_known"),
    CheckConstraint(
        "(frozen_path IS NULL) = (frozen_sha256 IS NULL)"
        " AND (frozen_path IS NULL) = (frozen_size_bytes IS NULL)",
        name="frozen_part_whole",
    ),
    Index("ix_checkpoints_job_step", "job_id", "step"),
)

events = Table(
    "events",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("type", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("idempotency_key", Id),  # of what no other row would show, if it were told a second time
)


workers = Table(
    "workers",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", String(255), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("pid_namespace", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started_at", Float, nullable=False),
    Column("device", String(16), nullable=False),
    Column("slot", String(255), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("job_id", Id),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("heartbeat", Float, nullable=False),  # the same on the lease clock
    # Why it may not claim; they outlive the times in which it is held for lost
    Column("drain_requested", Boolean, nullable=False, server_default=false()),
    Column("quarantine_reason", Text),
    CheckConstraint(
        one_of("status", ["online", "draining", "quarantined", "stopped", "lost"]), name="status_known"
    ),
)

drills = Table(
    "drills",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", Id, nullable=False, server_default="default"),
    Column("fault", String(32), nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("attempt", Integer),  # that it hit
    Column("carried_out_at", Instant),
    Column("checkpoint_id", Id),  # that it damaged
    CheckConstraint(one_of("fault", Fault), name="fault_known"),
    CheckConstraint("(attempt IS NULL) = (carried_out_at IS NULL)", name="carried_out_hit_an_attempt"),
    Index("ix_drills_job", "job_id", "id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Id, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("claimed_at", Float, nullable=False),  # unix seconds
    Column("status_code", Integer),
    Column("body", Json),
    Column("headers", Json),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("(status_code IS NULL) = (body IS NULL)", name="answered_whole"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False, server_default="default"),
    Column("url", Text, nullable=False),
    Column("topics", Json, nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", String(128), nullable=False),  # as it is: every sending is signed with it
    Column("disabled_reason", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_webhooks_tenant", "tenant_id", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Id, primary_key=True),  # the message's id, by which a receiver knows it again
    Column("webhook_id", Id, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Id, nullable=False),  # it may be deleted; what was told of it stays
    Column("topic", String(64), nullable=False),
    Column("body", Text, nullable=False),  # the bytes that are sent, each time the same
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),  # unix seconds; while it is sent, when others may take over
    Column("last_attempt_at", Instant),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    Column("delivered_at", Instant),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(one_of("status", ["pending", "delivered", "failed"]), name="status_known"),
    CheckConstraint("(status = 'delivered') = (delivered_at IS NOT NULL)", name="delivered_has_instant"),
    Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
)
Index(
    "ix_webhook_deliveries_due",
    webhook_deliveries.c.due_at,
    webhook_deliveries.c.id,
    sqlite_where=text("status = 'pending'"),
    postgresql_where=text("status = 'pending'"),
)
