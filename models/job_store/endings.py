"""How an attempt ends, and what becomes of its job: every edge that leaves ``running``."""

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
    true,
    update,
)

from models.columns import storable
from models.database import Database, deferred_lease_now
from models.errors import LeaseLost, NoProgress
from models.host import ProcessId, boot_id, boot_time_clock, pid_namespace
from models.job_state import EndCause, EventType, JobStatus
from models.job_store.fence import HELD, Fence, JobRow, holding, record
from models.job_store.standing import best_epoch, drop_metrics_beyond
from models.job_store.stream import Line, attempt_line
from models.tables import attempts, jobs, workers

#: Worker losses without progress after which a job is held to be what kills them.
MAX_LOSSES = 10
#: An answer that took longer than this, and than half a lease, may come from before an outage.
LATE_SECONDS = 1.0

_EVENT_OF = {
    JobStatus.QUEUED: EventType.RELEASED,
    JobStatus.PAUSED: EventType.PAUSED,
    JobStatus.SUCCEEDED: EventType.SUCCEEDED,
    JobStatus.FAILED: EventType.FAILED,
    JobStatus.CANCELLED: EventType.CANCELLED,
}
CAUSE_OF = {JobStatus.PAUSED: EndCause.PAUSED, JobStatus.CANCELLED: EndCause.CANCELLED}


def finish(db: Database, fence: Fence, weights_sha256: str, *, stopped_early: bool = False) -> None:
    """running -> succeeded. Called again after a lost reply it changes nothing. Raises LeaseLost.

    An attempt that computes otherwise than the one before may stop earlier than that had come: what the
    other left beyond goes, so that each row belongs to the weights that survive.
    """
    with db.writing() as tx:
        if _already(tx, fence, JobStatus.SUCCEEDED):
            return
        job = holding(tx, fence)
        message = f"Finished after {job.recoveries} recoveries" + (
            ", stopped early." if stopped_early else "."
        )
        drop_metrics_beyond(tx, job.id, job.committed_step)
        leave(
            tx, db, job, JobStatus.SUCCEEDED, EndCause.FINISHED, message,
            weights_sha256=weights_sha256, epochs_done=job.epochs_done, step=job.committed_step,
            **best_epoch(tx, job.id),
        )  # fmt: skip


def fail(db: Database, fence: Fence, cause: EndCause, code: str, message: str) -> None:
    """running -> failed (or cancelled, if that was asked), for an error that retrying cannot mend."""
    with db.writing() as tx:
        if _already(tx, fence, JobStatus.FAILED):
            return
        job = holding(tx, fence)
        to = JobStatus.CANCELLED if job.cancel_requested else JobStatus.FAILED
        leave(tx, db, job, to, cause, message, error=(code, message))


def release(db: Database, fence: Fence, cause: EndCause, message: str) -> JobStatus:
    """running -> queued, or where a pending request leads: an orderly stop that spends no budget."""
    with db.writing() as tx:
        job = holding(tx, fence)
        to = settled(job, JobStatus.QUEUED)
        leave(tx, db, job, to, CAUSE_OF.get(to, cause), message)
        return to


def expire_lost_leases(db: Database, lease_seconds: float, *, limit: int = 50) -> list[str]:
    """running -> queued for jobs whose lease ran out or whose worker is found dead on this host.

    Answers the ids of the jobs that were taken back. Idempotent; safe to run everywhere at once.
    """
    asked_at = boot_time_clock()
    with db.reading() as tx:
        here = {"boot_id": boot_id(), "pid_namespace": pid_namespace()}
        judged = here | {"lease_seconds": lease_seconds, "limit": limit} | db.clock_values()
        suspects = tx.execute(_suspects(db.is_sqlite), judged).all()
        neighbours = tx.execute(_NEIGHBOURS, here).all()
    # A question that was under way when the database went out of reach arrives when it is back, beside the
    # renewals that were held up likewise, and must not win against them.
    if boot_time_clock() - asked_at > max(LATE_SECONDS, lease_seconds / 2):
        return []
    # A dictionary for its order: that of a set of strings is another one in every process.
    dead = dict.fromkeys(
        (job.id, job.attempt)
        for job in neighbours
        if not ProcessId(job.owner_pid, job.owner_started_at).is_alive()
    )
    lost = [*dead, *((s.id, s.attempt) for s in suspects if (s.id, s.attempt) not in dead)]
    return [
        job_id
        for job_id, attempt in lost
        if _expire(db, Fence(job_id, attempt), (job_id, attempt) in dead, lease_seconds)
    ]


def leave(
    tx: Connection,
    db: Database,
    job: JobRow,
    to: JobStatus,
    cause: EndCause,
    message: str,
    *,
    error: tuple[str, str] | None = None,
    detection_seconds: float | None = None,
    event: EventType | None = None,
    **values: Any,
) -> None:
    """Give the lease back and close the ledger's line; the caller holds the job's row."""
    closed = close_attempt(tx, db, job, cause, message, detection_seconds)
    if to == JobStatus.FAILED and error is not None:
        values |= {"error_code": error[0], "error_message": storable(error[1])}
    if to == JobStatus.QUEUED:
        values |= {"queued_at": db.now(), "exact_until": db.unix_now() + job.exact_wait_seconds}
    if to == JobStatus.PAUSED:
        values |= {"paused_at": db.now()}
    if to in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}:
        values |= {"finished_at": db.now()}
    tx.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            status=to,
            worker_id=None,
            lease_expires_at=None,
            phase=None,
            cancel_requested=False,
            pause_requested=False,
            drill_requested=None,
            running_seconds=job.running_seconds + attempt_seconds(tx, job),
            **values,
        )
    )
    record(
        tx, db, job.id, event or _EVENT_OF[to], message,
        attempt=job.attempt, cause=str(cause), step=values.get("step", job.step), told=[closed],
    )  # fmt: skip


def _expire(db: Database, fence: Fence, found_dead: bool, lease_seconds: float) -> bool:
    with db.writing() as tx:
        is_lost = true() if found_dead else _may_be_lost(is_sqlite=db.is_sqlite)
        # Judged again under the lock: the holder may have renewed, or a neighbour may have been faster.
        job = tx.execute(
            select(jobs, (db.lease_now() - jobs.c.lease_expires_at).label("overdue"))
            .where(HELD, is_lost)
            .with_for_update(skip_locked=True),
            {**fence.values, "boot_id": boot_id(), "lease_seconds": lease_seconds, **db.clock_values()},
        ).one_or_none()
        if job is None:
            return False
        is_drill = was_drilled(tx, job)
        losses = job.losses + (not is_drill)
        is_spent = losses >= MAX_LOSSES and not is_drill
        to = settled(job, JobStatus.FAILED if is_spent else JobStatus.QUEUED)
        seen = "found dead" if found_dead else "silent past its lease"
        message = f"Worker {job.worker_id} on {job.owner_host} was {seen}."
        given_up = f"{losses} workers in a row were lost with this job; it may be what takes them down."
        leave(
            tx, db, job, to, EndCause.WORKER_LOST, given_up if to == JobStatus.FAILED else message,
            error=(NoProgress.code, given_up), event=EventType.EXPIRED if to == JobStatus.QUEUED else None,
            # Since the last renewal, which is the last that was seen of the worker.
            detection_seconds=max(0.0, job.overdue + lease_seconds),
            losses=losses, recoveries=job.recoveries + (to == JobStatus.QUEUED),
        )  # fmt: skip
        tx.execute(update(workers).where(workers.c.id == job.worker_id).values(status="lost", job_id=None))
        return True


def _may_be_lost(*, is_sqlite: bool) -> ColumnElement[bool]:
    """To be executed with ``boot_id``, ``lease_seconds`` and ``Database.clock_values()``."""
    expired = jobs.c.lease_expires_at < deferred_lease_now(is_sqlite=is_sqlite)
    if is_sqlite:  # the boot-time clock means nothing across a reboot
        expired = or_(expired, jobs.c.owner_boot_id != bindparam("boot_id", type_=String))
        return and_(jobs.c.status == JobStatus.RUNNING, expired)
    # After the server was away, its workers get one whole lease to renew before anything expires.
    uptime = cast(func.extract("epoch", func.clock_timestamp() - func.pg_postmaster_start_time()), Float)
    lease_seconds = bindparam("lease_seconds", type_=Float)
    return and_(jobs.c.status == JobStatus.RUNNING, expired, uptime > lease_seconds)


@cache
def _suspects(is_sqlite: bool) -> Select[Any]:
    lost = select(jobs.c.id, jobs.c.attempt).where(_may_be_lost(is_sqlite=is_sqlite))
    return lost.order_by(jobs.c.lease_expires_at).limit(bindparam("limit", type_=Integer))


#: Jobs of workers whose processes can be seen from here.
_NEIGHBOURS = (
    select(jobs)
    .where(
        jobs.c.status == JobStatus.RUNNING,
        jobs.c.owner_boot_id == bindparam("boot_id", type_=String),
        jobs.c.owner_pid_namespace == bindparam("pid_namespace", type_=String),
    )
    .order_by(jobs.c.id)
)


def settled(job: JobRow, otherwise: JobStatus) -> JobStatus:
    """Where a job goes that stops now: what the user asked for comes first."""
    if job.cancel_requested:
        return JobStatus.CANCELLED
    return JobStatus.PAUSED if job.pause_requested else otherwise


def _already(tx: Connection, fence: Fence, status: JobStatus) -> bool:
    row = tx.execute(select(jobs.c.status, jobs.c.attempt).where(jobs.c.id == fence.job_id)).one_or_none()
    if row is None:
        raise LeaseLost
    return (row.status, row.attempt) == (status, fence.attempt)


def was_drilled(tx: Connection, job: JobRow) -> bool:
    """Whether a drill is what ends the attempt; its row says so since before that was carried out."""
    drill = select(attempts.c.drill).where(attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
    return tx.execute(drill).scalar_one() is not None


def close_attempt(
    tx: Connection, db: Database, job: JobRow, cause: EndCause, detail: str, detection_seconds: float | None
) -> Line:
    """The ledger's line of the present attempt is complete; what tells of it."""
    closed = tx.execute(
        update(attempts)
        .where(attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
        .values(
            ended_at=db.now(),
            end_cause=str(cause),
            end_detail=storable(detail),
            detection_seconds=detection_seconds,
        )
        .returning(attempts)
    )
    return attempt_line(closed.one())


def attempt_seconds(tx: Connection, job: JobRow) -> float:
    row = tx.execute(
        select(attempts.c.started_at, attempts.c.ended_at).where(
            attempts.c.job_id == job.id, attempts.c.attempt == job.attempt
        )
    ).one()
    # Never negative, though somebody may set the clock back meanwhile.
    return max(0.0, float((row.ended_at - row.started_at).total_seconds()))
