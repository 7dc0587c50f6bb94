"""The workers that there are, and which of them may claim; leases never depend on these rows."""

from typing import Any

from sqlalchemy import Connection, Select, case, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.errors import NotFound
from models.host import Owner
from models.job_state import FAILURES
from models.job_store.fence import JobRow
from models.tables import attempts, jobs, workers

#: Workers that ended, or fell silent, are shown for a day.
_FORGET_AFTER_SECONDS = 86_400.0
#: States of a worker that beats.
PRESENT = ("online", "draining", "quarantined")

#: The failure rate is that of so many attempts that ended last,
_RECENT_ATTEMPTS = 100
#: and before there are any, one failure in this time.
_FIRST_GUESS_SECONDS = 6 * 3600.0


#: How the row of a worker that beats shows what is asked of it.
_PRESENT_AS = case(
    (workers.c.quarantine_reason.is_not(None), "quarantined"),
    (workers.c.drain_requested, "draining"),
    else_="online",
)


def register_worker(
    db: Database, owner: Owner, *, device: str, slot: str, threads: int, version: str
) -> None:
    """A worker is up (again); forget those that ended long ago."""
    with db.writing() as tx:
        there = {
            "host": owner.host, "boot_id": owner.boot_id, "pid_namespace": owner.pid_namespace,
            "pid": owner.process.pid, "process_started_at": owner.process.started_at, "device": device,
            "slot": slot, "threads": threads, "version": version, "status": "online", "job_id": None,
            "started_at": db.now(), "heartbeat_at": db.now(), "heartbeat": db.lease_now(),
        }  # fmt: skip
        put = (sqlite if db.is_sqlite else postgresql).insert(workers).values(id=owner.worker_id, **there)
        tx.execute(put.on_conflict_do_update(index_elements=["id"], set_=there))
        silent = workers.c.heartbeat < db.lease_now() - _FORGET_AFTER_SECONDS
        if db.is_sqlite:  # its clock began anew with this boot, which no worker survived
            silent = or_(silent, workers.c.boot_id != owner.boot_id)
        tx.execute(delete(workers).where(silent))


def worker_beat(db: Database, worker_id: str, job_id: str | None) -> str | None:
    """Still here, and busy with this job. The worker's status: whether it may claim.

    None for a worker that was silent until it was forgotten.
    """
    with db.writing() as tx:
        status: str | None = tx.execute(
            update(workers)
            .where(workers.c.id == worker_id)
            .values(heartbeat_at=db.now(), heartbeat=db.lease_now(), job_id=job_id, status=_PRESENT_AS)
            .returning(workers.c.status)
        ).scalar_one_or_none()
    return status


def drain_worker(db: Database, worker_id: str) -> JobRow:
    """It hands its job back and claims no more, until it is enabled. Raises NotFound."""
    with db.writing() as tx:
        tx.execute(update(workers).where(workers.c.id == worker_id).values(drain_requested=True))
        return _present(tx, db, worker_id)


def enable_worker(db: Database, worker_id: str) -> JobRow:
    """It may claim again, whatever kept it from that. Raises NotFound."""
    with db.writing() as tx:
        tx.execute(
            update(workers)
            .where(workers.c.id == worker_id)
            .values(drain_requested=False, quarantine_reason=None)
        )
        return _present(tx, db, worker_id)


def quarantine_worker(
    db: Database, worker_id: str, device: str, reason: str, *, silent_after_seconds: float
) -> bool:
    """It claims no more until it is enabled. False, with nothing changed, for the last of its device.

    A job that fails wherever it runs would otherwise take one worker after the other out of service.
    """
    fit = (
        select(workers.c.id)
        .where(
            workers.c.device == device,
            workers.c.status == "online",
            workers.c.heartbeat > db.lease_now() - silent_after_seconds,
        )
        .order_by(workers.c.id)
        # Two that give up at once take turns here, so that one of them sees that it is the last.
        .with_for_update()
    )
    with db.writing() as tx:
        if not set(tx.execute(fit).scalars()) - {worker_id}:
            return False
        quarantined = tx.execute(
            update(workers)
            .where(workers.c.id == worker_id)
            .values(quarantine_reason=reason, status="quarantined")
        )
        return quarantined.rowcount == 1


def worker_stopped(db: Database, worker_id: str) -> None:
    """Ended in order."""
    with db.writing() as tx:
        tx.execute(update(workers).where(workers.c.id == worker_id).values(status="stopped", job_id=None))


def seconds_between_failures(db: Database) -> float:
    """Mean time between failures of this installation's recent attempts, whatever job they trained."""
    recent = (
        select(attempts.c.started_at, attempts.c.ended_at, attempts.c.end_cause, attempts.c.drill)
        .where(attempts.c.ended_at.is_not(None))
        .order_by(attempts.c.ended_at.desc())
        .limit(_RECENT_ATTEMPTS)
    )
    with db.reading() as tx:
        rows = tx.execute(recent).all()
    trained: float = sum(max(0.0, (row.ended_at - row.started_at).total_seconds()) for row in rows)
    # What drills break says nothing of how often things break.
    failures = sum(row.end_cause in FAILURES and row.drill is None for row in rows)
    # As if one failure had been seen before: without any, the mean would have no end.
    return (trained + _FIRST_GUESS_SECONDS) / (failures + 1)


def list_workers(db: Database, *, after: str | None = None, limit: int = 20) -> list[JobRow]:
    """By id, each with ``heartbeat_age_seconds``, and with ``job_tenant_id``: whose job it runs."""
    wanted = _shown(db)
    if after is not None:
        wanted = wanted.where(workers.c.id > after)
    with db.reading() as tx:
        return list(tx.execute(wanted.order_by(workers.c.id).limit(limit)))


def _present(tx: Connection, db: Database, worker_id: str) -> JobRow:
    """Show at once what was asked of a worker that is there; one that ended stays as it is."""
    there = workers.c.status.in_(PRESENT)
    tx.execute(update(workers).where(workers.c.id == worker_id, there).values(status=_PRESENT_AS))
    row = tx.execute(_shown(db).where(workers.c.id == worker_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no worker {worker_id!r}; `GET /workers` lists those that exist.")
    return row


def _shown(db: Database) -> Select[Any]:
    age = (db.lease_now() - workers.c.heartbeat).label("heartbeat_age_seconds")
    return select(workers, age, jobs.c.tenant_id.label("job_tenant_id")).outerjoin(
        jobs, jobs.c.id == workers.c.job_id
    )
