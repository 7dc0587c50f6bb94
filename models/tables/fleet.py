"""The table of workers: who is there, and why it may not claim."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Integer,
    String,
    Table,
    Text,
    false,
)

from models.columns import Id, Instant, metadata, one_of

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
