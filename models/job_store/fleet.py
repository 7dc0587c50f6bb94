"""The workers that there are, so that people can see them; leases never depend on these rows."""

from sqlalchemy import delete, or_, select, update

from models.database import Database
from models.host import Owner
from models.job_store.fence import JobRow
from models.job_store.progress import insert_or_replace
from models.tables import workers

#: Workers that ended, or fell silent, are shown for a day.
_FORGET_AFTER_SECONDS = 86_400.0


def register_worker(
    db: Database, owner: Owner, *, device: str, slot: str, threads: int, version: str
) -> None:
    """A worker is up (again); forget those that ended long ago."""
    with db.writing() as tx:
        insert_or_replace(
            tx, db, workers, ["id"],
            [{
                "id": owner.worker_id, "host": owner.host, "boot_id": owner.boot_id,
                "pid_namespace": owner.pid_namespace, "pid": owner.process.pid,
                "process_started_at": owner.process.started_at, "device": device, "slot": slot,
                "threads": threads, "version": version, "status": "online", "job_id": None,
                "started_at": db.now(), "heartbeat_at": db.now(), "heartbeat": db.lease_now(),
            }],
        )  # fmt: skip
        silent = workers.c.heartbeat < db.lease_now() - _FORGET_AFTER_SECONDS
        if db.is_sqlite:  # its clock began anew with this boot, which no worker survived
            silent = or_(silent, workers.c.boot_id != owner.boot_id)
        tx.execute(delete(workers).where(silent))


def worker_beat(db: Database, worker_id: str, job_id: str | None) -> bool:
    """Still here, and busy with this job. False for a worker that was silent until it was forgotten."""
    with db.writing() as tx:
        beaten = tx.execute(
            update(workers)
            .where(workers.c.id == worker_id)
            .values(heartbeat_at=db.now(), heartbeat=db.lease_now(), job_id=job_id, status="online")
        )
    return beaten.rowcount == 1


def worker_stopped(db: Database, worker_id: str) -> None:
    """Ended in order."""
    with db.writing() as tx:
        tx.execute(update(workers).where(workers.c.id == worker_id).values(status="stopped", job_id=None))


def list_workers(db: Database, *, after: str | None = None, limit: int = 20) -> list[JobRow]:
    """By id, each with ``heartbeat_age_seconds``."""
    wanted = select(workers, (db.lease_now() - workers.c.heartbeat).label("heartbeat_age_seconds"))
    if after is not None:
        wanted = wanted.where(workers.c.id > after)
    with db.reading() as tx:
        return list(tx.execute(wanted.order_by(workers.c.id).limit(limit)))
