"""The table of datasets; like that of jobs it refuses rows that make no sense."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, Index, Integer, String, Table, Text, text

from models.columns import Id, Instant, Json, metadata, one_of
from models.dataset_state import DatasetStatus, Source

datasets = Table(
    "datasets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False, server_default="default"),
    Column("name", String(200)),
    Column("source", String(16), nullable=False),
    # Below the data root for a path; else below the uploads: named by the attempt that unpacked it, or, for
    # one of torchvision's, by its name
    Column("folder", String(1024)),
    Column("size_bytes", BigInteger),  # of the archive that was sent, of a path's files once they are counted
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),  # attempts that nobody handed back
    Column("trouble", Text),  # why the last of them came to nothing
    Column("error_code", String(64)),
    Column("error_message", Text),
    # The lease of the light worker that reads it
    Column("worker_id", Id),
    Column("lease_expires_at", Float),  # seconds on the lease clock
    Column("owner_boot_id", String(64)),
    Column("files_done", Integer, nullable=False, server_default="0"),
    Column("files_total", Integer, nullable=False, server_default="0"),
    # What the check found
    Column("found", Json),
    Column("digest", String(64)),
    Column("manifest_path", String(1024)),
    Column("created_at", Instant, nullable=False),
    Column("checked_at", Instant),
    CheckConstraint(one_of("status", DatasetStatus), name="status_known"),
    CheckConstraint(one_of("source", Source), name="source_known"),
    CheckConstraint("(worker_id IS NULL) = (lease_expires_at IS NULL)", name="lease_whole"),
    CheckConstraint("worker_id IS NULL OR status = 'checking'", name="lease_while_checking"),
    CheckConstraint("(status = 'checking') = (checked_at IS NULL)", name="checked_has_instant"),
    CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
    CheckConstraint(
        "status <> 'ready' OR (digest IS NOT NULL AND manifest_path IS NOT NULL AND folder IS NOT NULL)",
        name="ready_has_files",
    ),
    Index("ix_datasets_listed", "tenant_id", "id"),
)
Index(
    "ix_datasets_unchecked",
    datasets.c.id,
    sqlite_where=text("status = 'checking'"),
    postgresql_where=text("status = 'checking'"),
)
