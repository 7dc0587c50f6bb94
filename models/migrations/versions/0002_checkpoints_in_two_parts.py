"""Checkpoints in two parts, and exactness by attempt"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("attempts") as table:
        table.add_column(sa.Column("exact", sa.Boolean(), server_default=sa.true(), nullable=False))
        table.add_column(sa.Column("inexact_reasons", sa.JSON(), nullable=True))
        table.create_index(op.f("ix_attempts_ended_at"), ["ended_at"])
    with op.batch_alter_table("checkpoints") as table:
        table.add_column(sa.Column("frozen_path", sa.String(length=1024), nullable=True))
        table.add_column(sa.Column("frozen_sha256", sa.String(length=64), nullable=True))
        table.add_column(sa.Column("frozen_size_bytes", sa.BigInteger(), nullable=True))
        table.create_check_constraint(
            op.f("ck_checkpoints_frozen_part_whole"),
            "(frozen_path IS NULL) = (frozen_sha256 IS NULL)"
            " AND (frozen_path IS NULL) = (frozen_size_bytes IS NULL)",
        )


def downgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        table.drop_constraint(op.f("ck_checkpoints_frozen_part_whole"), type_="check")
        table.drop_column("frozen_size_bytes")
        table.drop_column("frozen_sha256")
        table.drop_column("frozen_path")
    with op.batch_alter_table("attempts") as table:
        table.drop_index(op.f("ix_attempts_ended_at"))
        table.drop_column("inexact_reasons")
        table.drop_column("exact")
