"""Drills, and workers that stand aside"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drills",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("fault", sa.String(length=32), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("carried_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "fault IN ('corrupt_checkpoint', 'kill_trainer', 'kill_worker', 'stall')",
            name=op.f("ck_drills_fault_known"),
        ),
        sa.CheckConstraint(
            "(attempt IS NULL) = (carried_out_at IS NULL)", name=op.f("ck_drills_carried_out_hit_an_attempt")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_drills_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drills")),
    )
    op.create_index("ix_drills_job", "drills", ["job_id", "id"])
    # Not as a batch: SQLite would make the table anew, and its index would forget that it is descending.
    op.add_column("jobs", sa.Column("drill_requested", sa.String(length=64), nullable=True))
    op.add_column("attempts", sa.Column("drill", sa.String(length=64), nullable=True))
    with op.batch_alter_table("workers") as table:
        table.add_column(
            sa.Column("drain_requested", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        table.add_column(sa.Column("quarantine_reason", sa.Text(), nullable=True))
        table.drop_constraint(op.f("ck_workers_status_known"), type_="check")
        table.create_check_constraint(
            op.f("ck_workers_status_known"),
            "status IN ('draining', 'lost', 'online', 'quarantined', 'stopped')",
        )


def downgrade() -> None:
    op.execute("UPDATE workers SET status = 'online' WHERE status IN ('draining', 'quarantined')")
    with op.batch_alter_table("workers") as table:
        table.drop_constraint(op.f("ck_workers_status_known"), type_="check")
        table.create_check_constraint(
            op.f("ck_workers_status_known"), "status IN ('lost', 'online', 'stopped')"
        )
        table.drop_column("quarantine_reason")
        table.drop_column("drain_requested")
    op.drop_column("attempts", "drill")
    op.drop_column("jobs", "drill_requested")
    op.drop_index("ix_drills_job", table_name="drills")
    op.drop_table("drills")
