"""Numbers of the whole installation, read in one consistent look; for monitoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from models.database import Database
from models.job_state import EndCause, Fault, JobStatus
from models.job_store.fleet import PRESENT
from models.job_store.overview import surviving_seconds
from models.tables import attempts, drills, jobs, workers

#: Goodput is that of so many jobs that succeeded last.
_RECENT_JOBS = 100


@dataclass(frozen=True)
class Statistics:
    """Every key that there may be is there, with 0 where there is nothing to count."""

    jobs: dict[str, int]  #: by status
    workers: dict[str, int]  #: by status
    attempts: dict[str, int]  #: that ended, by cause, those that a drill ended left out
    drills: dict[str, int]  #: that were carried out, by fault
    oldest_queued_seconds: float  #: 0 for an empty queue
    recoveries: int
    steps_redone: int
    detection_seconds: float  #: of all attempts together: from their end until it was noticed
    restart_seconds: float  #: from there to a next attempt's first step
    goodput: float | None  #: of recent jobs: seconds of surviving epochs ÷ seconds since the first claim


def statistics(db: Database, *, silent_after_seconds: float) -> Statistics:
    """Raises DatabaseUnavailable."""
    with db.reading() as tx:
        ended = select(attempts.c.end_cause, func.count()).where(
            attempts.c.end_cause.is_not(None), attempts.c.drill.is_(None)
        )
        carried_out = select(drills.c.fault, func.count()).where(drills.c.attempt.is_not(None))
        return Statistics(
            jobs=_counted(tx, JobStatus, select(jobs.c.status, func.count()).group_by(jobs.c.status)),
            workers=_workers(tx, db, silent_after_seconds),
            attempts=_counted(tx, EndCause, ended.group_by(attempts.c.end_cause)),
            drills=_counted(tx, Fault, carried_out.group_by(drills.c.fault)),
            oldest_queued_seconds=_oldest_queued_seconds(tx, db),
            recoveries=int(_sum(tx, jobs.c.recoveries)),
            steps_redone=int(_sum(tx, attempts.c.steps_redone)),
            detection_seconds=_sum(tx, attempts.c.detection_seconds),
            restart_seconds=_sum(tx, attempts.c.restart_seconds),
            goodput=_goodput(tx),
        )


def _counted(tx: Connection, names: Any, query: Select[Any]) -> dict[str, int]:
    return {str(name): 0 for name in names} | {row[0]: row[1] for row in tx.execute(query)}


def _workers(tx: Connection, db: Database, silent_after_seconds: float) -> dict[str, int]:
    silent = workers.c.heartbeat <= db.lease_now() - silent_after_seconds
    shown = case((workers.c.status.in_(PRESENT) & silent, "lost"), else_=workers.c.status).label("shown")
    each = select(shown).subquery()
    query = select(each.c.shown, func.count()).group_by(each.c.shown)
    return _counted(tx, (*PRESENT, "stopped", "lost"), query)


def _oldest_queued_seconds(tx: Connection, db: Database) -> float:
    oldest = select(func.min(jobs.c.queued_at)).where(jobs.c.status == JobStatus.QUEUED)
    since = tx.execute(oldest).scalar_one()
    if since is None:
        return 0.0
    return float(max(0.0, (tx.execute(select(db.now())).scalar_one() - since).total_seconds()))


def _sum(tx: Connection, column: Any) -> float:
    return float(tx.execute(select(func.coalesce(func.sum(column), 0))).scalar_one())


def _goodput(tx: Connection) -> float | None:
    recent: Sequence[Any] = tx.execute(
        select(jobs.c.id, jobs.c.first_claimed_at, jobs.c.finished_at, jobs.c.paused_seconds)
        .where(jobs.c.status == JobStatus.SUCCEEDED)
        .order_by(jobs.c.id.desc())
        .limit(_RECENT_JOBS)
    ).all()
    spent = sum(
        (job.finished_at - job.first_claimed_at).total_seconds() - job.paused_seconds for job in recent
    )
    if spent <= 0:
        return None
    return float(min(1.0, sum(surviving_seconds(tx, [job.id for job in recent]).values()) / spent))
