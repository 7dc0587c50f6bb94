"""Lanes of the queue, metadata to filter by, and deleted jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LANE = ["device_class", "tenant_id", "priority"]
QUEUED, RUNNING = sa.text("status = 'queued'"), sa.text("status = 'running'")
SERVED = sa.text("served_at IS NOT NULL")
JOBS = sa.table("jobs", sa.column("id"), sa.column("tenant_id"), sa.column("metadata"))
JOB_METADATA = sa.table("job_metadata", *map(sa.column, ("tenant_id", "name", "value", "job_id")))


def upgrade() -> None:
    # Not as a batch: SQLite would make the table anew, with its indexes as it understands them.
    op.add_column("jobs", sa.Column("served_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_jobs_claimable", table_name="jobs")
    op.create_index("ix_jobs_claimable", "jobs", [*LANE, "id"], sqlite_where=QUEUED, postgresql_where=QUEUED)
    op.create_index(
        "ix_jobs_served", "jobs", [*LANE, "served_at"], sqlite_where=SERVED, postgresql_where=SERVED
    )
    op.create_index("ix_jobs_running", "jobs", ["tenant_id"], sqlite_where=RUNNING, postgresql_where=RUNNING)
    op.create_table(
        "job_metadata",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_metadata_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", "value", "job_id", name=op.f("pk_job_metadata")),
    )
    op.create_index("ix_job_metadata_job", "job_metadata", ["job_id"])
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    each = sa.func.json_each if is_sqlite else sa.func.json_each_text
    pair = each(JOBS.c.metadata).table_valued("key", "value", name="pair", joins_implicitly=True)
    found = sa.select(JOBS.c.tenant_id, pair.c.key, pair.c.value, JOBS.c.id).select_from(JOBS, pair)
    op.execute(sa.insert(JOB_METADATA).from_select(["tenant_id", "name", "value", "job_id"], found))
    op.create_table(
        "deleted_jobs",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_deleted_jobs")),
    )


def downgrade() -> None:
    op.drop_table("deleted_jobs")
    op.drop_index("ix_job_metadata_job", table_name="job_metadata")
    op.drop_table("job_metadata")
    op.drop_index("ix_jobs_running", table_name="jobs")
    op.drop_index("ix_jobs_served", table_name="jobs")
    op.drop_index("ix_jobs_claimable", table_name="jobs")
    op.create_index(
        "ix_jobs_claimable",
        "jobs",
        [sa.literal_column("priority DESC"), "id"],
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    )
    op.drop_column("jobs", "served_at")
