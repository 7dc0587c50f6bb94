"""Tables that serve the list of jobs and outlive its rows."""

from sqlalchemy import Column, ForeignKey, Index, String, Table

from models.columns import Id, Instant, metadata

# A job's metadata once more, pair by pair, to be filtered by: the key has the list's order in it, so that a
# page costs the same however many jobs have the pair. Written together with the job's row.
job_metadata = Table(
    "job_metadata",
    metadata,
    Column("tenant_id", Id, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", String(512), primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_job_metadata_job", "job_id"),
)

# Jobs whose rows are gone, while files of theirs may still lie in the store.
deleted_jobs = Table(
    "deleted_jobs",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False),
    Column("deleted_at", Instant, nullable=False),
)
