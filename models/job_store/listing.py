"""The list of jobs, and which devices have something to do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, select, union_all

from models.database import Database
from models.dataset_state import LIGHT
from models.dataset_store.checks import is_claimable
from models.job_state import JobStatus
from models.job_store.fence import JobRow
from models.tables import job_metadata, jobs
from models.tables.datasets import datasets

#: Of the column ``device_class``.
DEVICE_CLASSES = ("any", "cpu", "cuda")


def list_jobs(
    db: Database,
    *,
    tenant_id: str = "default",
    status: str | None = None,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    after: str | None = None,
    limit: int = 20,
) -> list[JobRow]:
    """Newest first, from after the id ``after``; ask for one more than a page to see if there is more.

    ``metadata``: pairs that a job must have, all of them. ``created_after`` and ``created_before``: instants,
    of which the first is part of what is wanted and the second is not.
    """
    pairs = list((metadata or {}).items())
    wanted, key = _with_pairs(tenant_id, pairs) if pairs else (select(jobs), jobs.c.id)
    wanted = wanted.where(jobs.c.tenant_id == tenant_id)
    if status is not None:
        wanted = wanted.where(jobs.c.status == status)
    if name is not None:
        wanted = wanted.where(jobs.c.name == name)
    if created_after is not None:
        wanted = wanted.where(jobs.c.created_at >= created_after)
    if created_before is not None:
        wanted = wanted.where(jobs.c.created_at < created_before)
    if after is not None:
        wanted = wanted.where(key < after)
    with db.reading() as tx:
        return list(tx.execute(wanted.order_by(key.desc()).limit(limit)))


def _with_pairs(tenant_id: str, pairs: list[tuple[str, str]]) -> tuple[Select[Any], Any]:
    """Jobs that have every pair, and the column that has the list's order in the first pair's index."""
    tables = [job_metadata.alias(f"pair_{number}") for number in range(len(pairs))]
    wanted = select(jobs).join_from(tables[0], jobs, jobs.c.id == tables[0].c.job_id)
    for table in tables[1:]:
        wanted = wanted.join(table, table.c.job_id == tables[0].c.job_id)
    for table, (name, value) in zip(tables, pairs, strict=True):
        wanted = wanted.where(table.c.tenant_id == tenant_id, table.c.name == name, table.c.value == value)
    return wanted, tables[0].c.job_id


def claimable_classes(db: Database) -> list[str]:
    """The device classes that queued jobs wait for, and `light` where datasets wait for their check."""
    unchecked = select(datasets.c.id).where(is_claimable(db)).exists()
    light = select(literal(LIGHT).label("device_class")).where(unchecked)
    with db.reading() as tx:
        return sorted(tx.execute(union_all(*_WAITED_FOR, light)).scalars())


#: Looked for one by one, since the queue may be long.
_WAITED_FOR = [
    select(literal(name).label("device_class")).where(
        select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED, jobs.c.device_class == name).exists()
    )
    for name in DEVICE_CLASSES
]
