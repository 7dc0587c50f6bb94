"""Datasets that are uploaded or registered, and checked by light workers"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("folder", sa.String(length=1024), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.String(length=64), nullable=True),
        sa.Column("lease_expires_at", sa.Float(), nullable=True),
        sa.Column("owner_boot_id", sa.String(length=64), nullable=True),
        sa.Column("files_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("files_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("found", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("manifest_path", sa.String(length=1024), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('checking', 'failed', 'ready')", name=op.f("ck_datasets_status_known")
        ),
        sa.CheckConstraint("source IN ('path', 'upload')", name=op.f("ck_datasets_source_known")),
        sa.CheckConstraint(
            "(worker_id IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_datasets_lease_whole")
        ),
        sa.CheckConstraint(
            "worker_id IS NULL OR status = 'checking'", name=op.f("ck_datasets_lease_while_checking")
        ),
        sa.CheckConstraint(
            "(status = 'checking') = (checked_at IS NULL)", name=op.f("ck_datasets_checked_has_instant")
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_datasets_failed_has_error")
        ),
        sa.CheckConstraint(
            "status <> 'ready' OR (digest IS NOT NULL AND manifest_path IS NOT NULL AND folder IS NOT NULL)",
            name=op.f("ck_datasets_ready_has_files"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index("ix_datasets_listed", "datasets", ["tenant_id", "id"])
    op.create_index(
        "ix_datasets_unchecked",
        "datasets",
        ["id"],
        sqlite_where=sa.text("status = 'checking'"),
        postgresql_where=sa.text("status = 'checking'"),
    )
    # Not as a batch: SQLite would make the table anew, and its index would forget that it is descending.
    op.add_column("jobs", sa.Column("dataset_id", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_jobs_dataset",
        "jobs",
        ["dataset_id"],
        sqlite_where=sa.text("dataset_id IS NOT NULL"),
        postgresql_where=sa.text("dataset_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_dataset", table_name="jobs")
    op.drop_column("jobs", "dataset_id")
    op.drop_table("datasets")
