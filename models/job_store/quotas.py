"""What a tenant may have of what all share: places in the queue, room in the store."""

from typing import Any

from sqlalchemy import Connection, Select, func, select

from models.database import Database
from models.dataset_state import DatasetStatus, Source
from models.errors import QuotaExceeded
from models.job_state import JobStatus
from models.tables import checkpoints, datasets, jobs


def expect_room_in_queue(tx: Connection, db: Database, tenant_id: str, max_queued: int | None) -> None:
    """Called last in the transaction that queues a job, which it undoes. Raises QuotaExceeded."""
    if max_queued is None:
        return
    if not db.is_sqlite:
        # Of two that count at once neither would see the other's job; SQLite has one writer anyway. The last
        # lock that these transactions take, so that none waits for one who waits for it.
        tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(tenant_id, 0))))
    queued = select(jobs.c.id).where(jobs.c.tenant_id == tenant_id, jobs.c.status == JobStatus.QUEUED)
    # No more are counted than matter.
    counted = select(func.count()).select_from(queued.limit(max_queued + 1).subquery())
    if tx.execute(counted).scalar_one() > max_queued:
        raise QuotaExceeded(
            f"There are {max_queued} jobs in the queue already, as many as you may have there; try again when"
            " one of them has begun, or cancel one."
        )


def stored_bytes(db: Database, tenant_id: str) -> int:
    """Of the checkpoints that the tenant's jobs keep, and of its uploads; its cost grows with their number.

    A folder that was registered is no work of ours, torchvision's datasets are shared, and of an upload that
    failed nothing is kept.
    """
    kept = checkpoints.join(jobs, jobs.c.id == checkpoints.c.job_id)
    is_kept = (jobs.c.tenant_id == tenant_id) & (checkpoints.c.status != "pruned")
    # Layers that a job freezes are one file for all its checkpoints.
    shared: Select[Any] = (
        select(func.max(checkpoints.c.frozen_size_bytes).label("size_bytes"))
        .select_from(kept)
        .where(is_kept, checkpoints.c.frozen_path.is_not(None))
        .group_by(checkpoints.c.frozen_path)
    )
    own = select(func.coalesce(func.sum(checkpoints.c.size_bytes), 0)).select_from(kept).where(is_kept)
    of_shared = select(func.coalesce(func.sum(shared.subquery().c.size_bytes), 0))
    uploaded = select(func.coalesce(func.sum(datasets.c.size_bytes), 0)).where(
        datasets.c.tenant_id == tenant_id,
        datasets.c.source == Source.UPLOAD,
        datasets.c.status != DatasetStatus.FAILED,
    )
    with db.reading() as tx:
        return sum(int(tx.execute(part).scalar_one()) for part in (own, of_shared, uploaded))
