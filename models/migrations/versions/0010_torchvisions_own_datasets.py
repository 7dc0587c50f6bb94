"""Torchvision's own datasets beside uploads and folders"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _sources("'builtin', 'path', 'upload'")


def downgrade() -> None:
    datasets = sa.table("datasets", sa.column("source"))
    op.execute(sa.delete(datasets).where(datasets.c.source == "builtin"))
    _sources("'path', 'upload'")


def _sources(known: str) -> None:
    with op.batch_alter_table("datasets") as table:
        table.drop_constraint(op.f("ck_datasets_source_known"), type_="check")
        table.create_check_constraint(op.f("ck_datasets_source_known"), f"source IN ({known})")
