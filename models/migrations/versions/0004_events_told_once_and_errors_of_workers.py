"""Events that are told once, and errors of workers"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CAUSES = (
    "'cancelled', 'finished', 'lease_lost', 'out_of_memory', 'paused', 'preempted', 'stalled', "
    "'trainer_error', 'trainer_killed'"
)


def _allow(causes: str) -> None:
    with op.batch_alter_table("attempts") as table:
        table.drop_constraint(op.f("ck_attempts_end_cause_known"), type_="check")
        table.create_check_constraint(
            op.f("ck_attempts_end_cause_known"), f"end_cause IS NULL OR end_cause IN ({causes})"
        )


def upgrade() -> None:
    op.add_column("events", sa.Column("idempotency_key", sa.String(length=64), nullable=True))
    _allow(f"{CAUSES}, 'worker_error', 'worker_lost'")


def downgrade() -> None:
    op.execute("UPDATE attempts SET end_cause = 'worker_lost' WHERE end_cause = 'worker_error'")
    _allow(f"{CAUSES}, 'worker_lost'")
    op.drop_column("events", "idempotency_key")
