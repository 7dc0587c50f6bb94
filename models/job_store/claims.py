"""A worker takes a job: one conditional statement decides who, so that ten doorbells make one claim."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Select,
    String,
    Update,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from models.database import Database, deferred_lease_now, deferred_now, deferred_unix_now
from models.host import Owner
from models.job_state import EventType, JobStatus
from models.job_store.fence import Fence, JobRow, append_event, numbered
from models.job_store.lanes import Condition, in_lane, lanes
from models.job_store.stream import Line, attempt_line
from models.tables import attempts, checkpoints, jobs
from models.webhooks import outbox

#: The attempt, the event, the job's status.
_LINES_OF_A_CLAIM = 3


@dataclass(frozen=True)
class Claim:
    """A job that is ours now."""

    fence: Fence
    job: JobRow
    checkpoints: list[JobRow]  #: committed ones, newest first


def claim(
    db: Database,
    owner: Owner,
    device: str,
    slot: str,
    lease_seconds: float,
    *,
    not_now: Collection[str] = (),
) -> Claim | None:
    """The next job (:mod:`models.job_store.lanes`) that fits this device; None without one.

    ``not_now``: ids of jobs that this worker leaves to others for the moment.

    A job that has numerics goes to a worker whose slot computes the same bits, until it has waited
    ``exact_wait_seconds`` for one.
    """
    given = {
        "device": device,
        "slot": slot,
        "lease_seconds": lease_seconds,
        "worker_id": owner.worker_id,
        "owner_host": owner.host,
        "owner_boot_id": owner.boot_id,
        "owner_pid_namespace": owner.pid_namespace,
        "owner_pid": owner.process.pid,
        "owner_started_at": owner.process.started_at,
        **({"not_now": list(not_now)} if not_now else {}),
    }
    with db.writing() as tx:
        taken = _taking(db.is_sqlite, _fits_but if not_now else _fits)
        job = tx.execute(taken, {**given, **db.clock_values()}).one_or_none()
        if job is None:
            return None
        append_event(
            tx, db, job, EventType.CLAIMED, f"Claimed by {owner.worker_id} on {owner.host}.",
            attempt=job.attempt, worker_id=owner.worker_id, host=owner.host,
            told=[open_attempt(tx, db, job, device)],
        )  # fmt: skip
        return Claim(Fence(job.id, job.attempt), job, committed_checkpoints(tx, job.id))


@cache
def _taking(is_sqlite: bool, fits: "Fits") -> Update:
    """The whole claim as one statement, built once; what is the worker's own is given with it."""
    candidate = (
        _first_free(lanes(is_sqlite, fits(is_sqlite)), fits(is_sqlite), is_alone=is_sqlite)
        # Materialised, since a planner that evaluated the subselect twice would lock two jobs.
        .cte("candidate")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return _running(jobs.c.id.in_(select(candidate.c.id)), is_sqlite=is_sqlite)


def _running(chosen: ColumnElement[bool], *, is_sqlite: bool) -> Update:
    now, lease_now = deferred_now(is_sqlite=is_sqlite), deferred_lease_now(is_sqlite=is_sqlite)
    return (
        update(jobs)
        .where(chosen)
        .values(
            status=JobStatus.RUNNING,
            attempt=jobs.c.attempt + 1,
            lease_expires_at=lease_now + bindparam("lease_seconds", type_=Float),
            first_claimed_at=func.coalesce(jobs.c.first_claimed_at, now),
            claimed_at=now,
            served_at=now,
            phase=None,
            **numbered(_LINES_OF_A_CLAIM),
        )
        .returning(jobs, outbox.IS_WANTED)
    )


@cache
def _fits(is_sqlite: bool) -> Condition:
    """Whether the slot computes what the job began with, or the job has waited long enough."""

    def fits(job: FromClause) -> Sequence[ColumnElement[bool]]:
        is_exact = or_(job.c.numerics_slot.is_(None), job.c.numerics_slot == bindparam("slot", type_=String))
        return [or_(is_exact, job.c.exact_until <= deferred_unix_now(is_sqlite=is_sqlite))]

    return fits


@cache
def _fits_but(is_sqlite: bool) -> Condition:
    """The same without those that are left to others for the moment."""

    def fits(job: FromClause) -> Sequence[ColumnElement[bool]]:
        return [*_fits(is_sqlite)(job), job.c.id.not_in(bindparam("not_now", expanding=True))]

    return fits


Fits = Callable[[bool], Condition]


def _first_free(in_order: Select[Any], fits: Condition, *, is_alone: bool) -> Select[Any]:
    """The id of the first job in these lanes that nobody else is claiming at this moment.

    A writer on SQLite ``is_alone``, so that is the front of the first lane. On PostgreSQL others may hold
    that row: then the one behind it is next, and behind the lane's last job the next lane. The lanes are
    taken one by one in their order until there is a job; a sort behind the join would lock the fronts of all.
    """
    if is_alone:
        return select(in_order.limit(1).subquery("lanes").c.front.label("id"))
    ordered = in_order.cte("lanes").prefix_with("MATERIALIZED", dialect="postgresql")
    job = jobs.alias("free")
    waiting = select(job.c.id).where(*in_lane(job, ordered.c), *fits(job)).order_by(job.c.id).limit(1)
    free = waiting.with_for_update(skip_locked=True).correlate(ordered).lateral("job")
    return select(free.c.id).join_from(ordered, free, true()).limit(1)


def unheard_claim(db: Database, owner: Owner, lease_seconds: float) -> Claim | None:
    """The job that this worker holds without knowing: the reply to its claim or restart was lost.

    Only under an attempt that never had a trainer, so that it can begin now as if the reply had come.
    For workers that hold no job as far as they know.
    """
    no_trainer_yet = (
        select(attempts.c.job_id)
        .where(
            attempts.c.job_id == jobs.c.id,
            attempts.c.attempt == jobs.c.attempt,
            attempts.c.trainer_pid.is_(None),
        )
        .exists()
    )
    held = and_(jobs.c.status == JobStatus.RUNNING, jobs.c.worker_id == owner.worker_id, no_trainer_yet)
    with db.writing() as tx:
        first = select(jobs.c.id).where(held).order_by(jobs.c.id).limit(1).scalar_subquery()
        job = tx.execute(
            update(jobs)
            .where(jobs.c.id == first, held)
            .values(lease_expires_at=db.lease_now() + lease_seconds)
            .returning(jobs)
        ).one_or_none()
        if job is None:
            return None
        return Claim(Fence(job.id, job.attempt), job, committed_checkpoints(tx, job.id))


def open_attempt(tx: Connection, db: Database, job: JobRow, device: str) -> Line:
    """A line in the ledger for the attempt that ``job`` now carries, and one that tells of it."""
    row = {
        "job_id": job.id,
        "attempt": job.attempt,
        "worker_id": job.worker_id,
        "worker_pid": job.owner_pid,
        "host": job.owner_host,
        "device": device,
    }
    return attempt_line(tx.execute(_opening(db.is_sqlite), {**row, **db.clock_values()}).one())


@cache
def _opening(is_sqlite: bool) -> Any:
    return insert(attempts).values(started_at=deferred_now(is_sqlite=is_sqlite)).returning(attempts)


def committed_checkpoints(tx: Connection, job_id: str) -> list[JobRow]:
    """What a resume may load, newest first."""
    return list(
        tx.execute(
            select(checkpoints)
            .where(checkpoints.c.job_id == job_id, checkpoints.c.status == "committed")
            .order_by(checkpoints.c.step.desc(), checkpoints.c.id.desc())
        )
    )
