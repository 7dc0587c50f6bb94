"""Datasets as users see them: registered, shown, used by jobs, deleted."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, false, func, insert, select

from models.database import Database
from models.dataset_state import LIGHT, DatasetStatus, Source
from models.errors import DatasetInUse, DatasetInvalid, DatasetNotReady, NotFound, SpecInvalid
from models.job_state import FINISHED
from models.tables import jobs, workers
from models.tables.datasets import datasets

DatasetRow = Row[Any]


@dataclass(frozen=True)
class ReadyDataset:
    """What a trainer has to know of a dataset that its job names by id."""

    source: Source
    folder: str  #: below the uploads, or below the data root
    manifest_path: str  #: key in the checkpoint store
    digest: str


def create_dataset(
    db: Database,
    dataset_id: str,
    source: Source,
    *,
    name: str | None,
    folder: str | None,
    size_bytes: int | None,
    tenant_id: str = "default",
) -> DatasetRow:
    """Registered, and to be checked. ``folder``: below the data root, None for an upload."""
    with db.writing() as tx:
        return tx.execute(
            insert(datasets)
            .values(
                id=dataset_id,
                tenant_id=tenant_id,
                name=name,
                source=source,
                folder=folder,
                size_bytes=size_bytes,
                status=DatasetStatus.CHECKING,
                created_at=db.now(),
            )
            .returning(datasets, false().label("is_lost"))
        ).one()


def get_dataset(db: Database, dataset_id: str, tenant_id: str = "default") -> DatasetRow:
    """With ``is_lost``: whether nobody reads it, though somebody began to. Raises NotFound."""
    with db.reading() as tx:
        return _expect(tx, _shown(db), dataset_id, tenant_id)


def list_datasets(
    db: Database, *, tenant_id: str = "default", after: str | None = None, limit: int = 20
) -> list[DatasetRow]:
    """Newest first, from after the id ``after``; ask for one more than a page to see if there is more.

    Each with ``is_lost``, as ``get_dataset``.
    """
    wanted = _shown(db).where(datasets.c.tenant_id == tenant_id)
    if after is not None:
        wanted = wanted.where(datasets.c.id < after)
    with db.reading() as tx:
        return list(tx.execute(wanted.order_by(datasets.c.id.desc()).limit(limit)))


def delete_dataset(db: Database, dataset_id: str, tenant_id: str = "default") -> DatasetRow:
    """Forget a dataset; its row as it was. Files are the caller's to remove, after the row is gone.

    Raises NotFound, and DatasetInUse while a job that is not finished names it.
    """
    with db.writing() as tx:
        # Locked, so that no job can be submitted for it between this look and its end.
        row = _expect(tx, select(datasets).with_for_update(), dataset_id, tenant_id)
        user = tx.execute(
            select(jobs.c.id)
            .where(jobs.c.dataset_id == dataset_id, jobs.c.status.not_in(FINISHED))
            .order_by(jobs.c.id)
            .limit(1)
        ).scalar_one_or_none()
        if user is not None:
            raise DatasetInUse(f"{user} uses this dataset; wait for its end, or cancel it first.")
        tx.execute(delete(datasets).where(datasets.c.id == dataset_id))
        return row


def require_ready(tx: Connection, dataset_id: str, tenant_id: str) -> DatasetRow:
    """The row of a dataset that jobs may use, kept from being deleted until the transaction ends.

    Raises SpecInvalid for one that is not there, DatasetNotReady, DatasetInvalid for one that failed.
    """
    wanted = select(datasets).where(datasets.c.id == dataset_id, datasets.c.tenant_id == tenant_id)
    row = tx.execute(wanted.with_for_update(read=True)).one_or_none()
    if row is None:
        raise SpecInvalid(
            "There is no dataset with this id; `GET /datasets` lists those that exist.", field="dataset.id"
        )
    if row.status == DatasetStatus.CHECKING:
        raise DatasetNotReady(f"{dataset_id} is still being checked; try again in a few seconds.")
    if row.status == DatasetStatus.FAILED:
        raise DatasetInvalid(f"{dataset_id} cannot be trained on: {row.error_message}", field="dataset.id")
    return row


def usable_dataset(db: Database, dataset_id: str, tenant_id: str = "default") -> DatasetRow:
    """One look at a dataset that a job is to name. Raises as ``require_ready``."""
    with db.reading() as tx:
        return require_ready(tx, dataset_id, tenant_id)


def ready_dataset(db: Database, dataset_id: str | None) -> ReadyDataset | None:
    """For the worker of a job that names it; None if it was deleted meanwhile."""
    wanted = select(datasets).where(datasets.c.id == dataset_id, datasets.c.status == DatasetStatus.READY)
    with db.reading() as tx:
        row = tx.execute(wanted).one_or_none()
    if row is None:
        return None
    return ReadyDataset(Source(row.source), row.folder, row.manifest_path, row.digest)


def recorded_ids(db: Database, ids: Collection[str]) -> set[str]:
    """Those of ``ids`` that are datasets; what else has files is garbage."""
    with db.reading() as tx:
        return set(tx.execute(select(datasets.c.id).where(datasets.c.id.in_(ids))).scalars())


def light_workers_online(db: Database, *, silent_after_seconds: float) -> int:
    """How many are there to check what waits."""
    counted = (
        select(func.count())
        .select_from(workers)
        .where(
            workers.c.device == LIGHT,
            workers.c.status == "online",
            workers.c.heartbeat > db.lease_now() - silent_after_seconds,
        )
    )
    with db.reading() as tx:
        return tx.execute(counted).scalar_one()


def _shown(db: Database) -> Select[Any]:
    overdue = func.coalesce(datasets.c.lease_expires_at < db.lease_now(), false())
    return select(datasets, overdue.label("is_lost"))


def _expect(tx: Connection, wanted: Select[Any], dataset_id: str, tenant_id: str) -> DatasetRow:
    row = tx.execute(
        wanted.where(datasets.c.id == dataset_id, datasets.c.tenant_id == tenant_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no dataset {dataset_id!r}; `GET /datasets` lists those that exist.")
    return row
