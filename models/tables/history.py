"""What happened to jobs: attempts, metrics, checkpoints, events, drills."""

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
    true,
)

from models.columns import Id, Instant, Json, metadata, one_of
from models.job_state import EndCause, Fault

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
