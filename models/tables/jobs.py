"""The table of jobs: the truth about each, and which rows the state machine forbids."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
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
from models.job_state import FINISHED, JobStatus

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
