"""The check of a dataset by a light worker: claimed under a lease, fenced by its attempt."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from models.columns import storable
from models.database import Database
from models.dataset_state import DatasetStatus
from models.dataset_store.records import DatasetRow
from models.errors import CheckFailed, LeaseLost
from models.host import Owner, ProcessId, boot_id, pid_namespace
from models.tables import workers
from models.tables.datasets import datasets

#: A dataset whose check came to nothing so often is held to be what breaks it.
MAX_TRIES = 5


@dataclass(frozen=True)
class Check:
    """What a light worker holds: the dataset under the attempt that it claimed."""

    dataset: DatasetRow

    @property
    def attempt(self) -> int:
        return int(self.dataset.attempt)

    @property
    def holds(self) -> ColumnElement[bool]:
        """True for the dataset's row while the lease is ours."""
        return and_(
            datasets.c.id == self.dataset.id,
            datasets.c.status == DatasetStatus.CHECKING,
            datasets.c.attempt == self.dataset.attempt,
            datasets.c.worker_id == self.dataset.worker_id,
        )


def claim_check(db: Database, owner: Owner, lease_seconds: float) -> Check | None:
    """The oldest dataset that waits, or whose light worker was lost; None without one.

    A lease that ran out is taken over right here: checks change nothing but their own row, so that two of
    one dataset, of which the fence lets one be recorded, cost time alone.
    """
    candidate = (
        select(datasets.c.id)
        .where(_is_free(db), datasets.c.tries < MAX_TRIES)
        .order_by(datasets.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("candidate")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    with db.writing() as tx:
        _give_up(tx, db)
        row = tx.execute(
            update(datasets)
            .where(datasets.c.id.in_(select(candidate.c.id)))
            .values(
                attempt=datasets.c.attempt + 1,
                tries=datasets.c.tries + 1,
                worker_id=owner.worker_id,
                owner_boot_id=owner.boot_id,
                lease_expires_at=db.lease_now() + lease_seconds,
                files_done=0,
                files_total=0,
            )
            .returning(datasets)
        ).one_or_none()
    return None if row is None else Check(row)


def renew_check(db: Database, check: Check, lease_seconds: float, files_done: int, files_total: int) -> None:
    """Still at it. Raises LeaseLost, also for a dataset that was deleted meanwhile."""
    _write(
        db,
        check,
        lease_expires_at=db.lease_now() + lease_seconds,
        files_done=files_done,
        files_total=files_total,
    )


def finish_check(
    db: Database,
    check: Check,
    *,
    folder: str,
    found: dict[str, Any],
    digest: str,
    manifest_path: str,
    size_bytes: int | None,
) -> None:
    """checking -> ready. Raises LeaseLost."""
    _write(
        db, check, status=DatasetStatus.READY, folder=folder, found=found, digest=digest,
        manifest_path=manifest_path, size_bytes=size_bytes, checked_at=db.now(), **_NO_LEASE,
    )  # fmt: skip


def fail_check(db: Database, check: Check, code: str, message: str, found: dict[str, Any] | None) -> None:
    """checking -> failed: it cannot be trained on. Raises LeaseLost."""
    _write(
        db, check, status=DatasetStatus.FAILED, error_code=code, error_message=storable(message),
        found=found, checked_at=db.now(), **_NO_LEASE,
    )  # fmt: skip


def release_check(db: Database, check: Check) -> None:
    """The worker stops in order: another may begin at once, and nothing is spent. Raises LeaseLost."""
    _write(db, check, tries=datasets.c.tries - 1, **_NO_LEASE)


def abandon_check(db: Database, check: Check, trouble: str) -> None:
    """It came to nothing; what is left of the lease is the pause before the next try. Raises LeaseLost."""
    _write(db, check, trouble=storable(trouble))


def release_dead_checks(db: Database) -> list[str]:
    """Give back at once what light workers held that are found dead on this host; the datasets' ids.

    The try stays spent, since what was checked may be what killed them. Safe to run everywhere at once.
    """
    # By the row that the worker registered itself with; until then there is still the lease.
    held = (
        select(datasets.c.id, datasets.c.attempt, workers.c.pid, workers.c.process_started_at)
        .join_from(datasets, workers, workers.c.id == datasets.c.worker_id)
        .where(
            datasets.c.status == DatasetStatus.CHECKING,
            workers.c.boot_id == boot_id(),
            workers.c.pid_namespace == pid_namespace(),
        )
        .order_by(datasets.c.id)
    )
    with db.reading() as tx:
        neighbours = tx.execute(held).all()
    dead = [row for row in neighbours if not ProcessId(row.pid, row.process_started_at).is_alive()]
    released = []
    for row in dead:
        with db.writing() as tx:
            still = and_(datasets.c.id == row.id, datasets.c.attempt == row.attempt, *_HELD)
            if tx.execute(update(datasets).where(still).values(**_NO_LEASE)).rowcount:
                released.append(str(row.id))
    return released


def is_claimable(db: Database) -> ColumnElement[bool]:
    """True for datasets that a light worker would take, or give up."""
    return _is_free(db)


_HELD = (datasets.c.status == DatasetStatus.CHECKING, datasets.c.worker_id.is_not(None))
_NO_LEASE: dict[str, Any] = {"worker_id": None, "owner_boot_id": None, "lease_expires_at": None}


def _is_free(db: Database) -> ColumnElement[bool]:
    lost = or_(datasets.c.lease_expires_at.is_(None), datasets.c.lease_expires_at < db.lease_now())
    if db.is_sqlite:  # the boot-time clock means nothing across a reboot
        lost = or_(lost, datasets.c.owner_boot_id != boot_id())
    return and_(datasets.c.status == DatasetStatus.CHECKING, lost)


def _give_up(tx: Connection, db: Database) -> None:
    """checking -> failed for what was begun again and again."""
    spent = and_(_is_free(db), datasets.c.tries >= MAX_TRIES)
    for row in tx.execute(select(datasets.c.id, datasets.c.trouble).where(spent).with_for_update()).all():
        last = f" The last time: {row.trouble}" if row.trouble else " Its light workers were lost."
        tx.execute(
            update(datasets)
            .where(datasets.c.id == row.id)
            .values(
                status=DatasetStatus.FAILED,
                error_code=CheckFailed.code,
                error_message=f"The check was begun {MAX_TRIES} times and never came to an end.{last}",
                checked_at=db.now(),
                **_NO_LEASE,
            )
        )


def _write(db: Database, check: Check, **values: Any) -> None:
    with db.writing() as tx:
        if tx.execute(update(datasets).where(check.holds).values(**values)).rowcount == 0:
            raise LeaseLost
