"""Drills: a fault that a user asks for, the worker that carries it out on itself, and what it then cost.

A drill is recorded before it is done, since a worker that kills itself cannot record anything afterwards. A
crash in between leaves an attempt that is held to have ended by the drill: it spends no budget, and the
report is true all the same, since something did end it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from models.database import Database
from models.errors import WrongState
from models.identifiers import new_id
from models.job_state import FAILURES, EndCause, EventType, Fault, JobStatus
from models.job_store.fence import Fence, JobRow, holding, locked, record
from models.job_store.reading import expect_job
from models.tables import attempts, checkpoints, drills, jobs

Outcome = Literal["requested", "dropped", "recovering", "recovered", "not_recovered"]


@dataclass(frozen=True)
class Drill:
    """What was asked for, and what the attempts ledger says of it."""

    id: str
    job_id: str
    fault: Fault
    status: Outcome
    requested_at: datetime
    attempt: int | None  #: the one that it hit
    carried_out_at: datetime | None
    checkpoint_id: str | None  #: the one that it damaged
    detected_seconds: float | None = None  #: since it was carried out, as are the next
    running_again_seconds: float | None = None
    steps_redone: int | None = None
    exact: bool | None = None
    recovered: bool = False


def request_drill(db: Database, job_id: str, fault: Fault) -> Drill:
    """Ask the worker of a running job to break it. Raises NotFound, WrongState."""
    with db.writing() as tx:
        job = locked(tx, job_id)
        _expect_breakable(tx, job, fault)
        drill_id = new_id("drl")
        tx.execute(
            insert(drills).values(
                id=drill_id, job_id=job_id, tenant_id=job.tenant_id, fault=str(fault), requested_at=db.now()
            )
        )
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(drill_requested=drill_id))
        record(
            tx, db, job_id, EventType.DRILL_REQUESTED, f"Asked for: {fault}.",
            attempt=job.attempt, drill_id=drill_id, fault=str(fault),
        )  # fmt: skip
        row = tx.execute(select(drills).where(drills.c.id == drill_id)).one()
        return _report(row, job.status, drill_id, [])


def carry_out_drill(db: Database, fence: Fence, drill_id: str) -> Fault | None:
    """Record that the holder breaks its attempt now; what it has to break, None if that is over.

    Called again after a lost reply it answers the same. Raises LeaseLost.
    """
    with db.writing() as tx:
        holding(tx, fence)
        row = tx.execute(select(drills).where(drills.c.id == drill_id)).one_or_none()
        if row is None or row.attempt not in {None, fence.attempt}:
            return None
        fault = Fault(row.fault)
        if row.attempt is None:
            tx.execute(
                update(drills)
                .where(drills.c.id == drill_id)
                .values(attempt=fence.attempt, carried_out_at=db.now())
            )
            _mark_attempt(tx, fence, drill_id)
            tx.execute(update(jobs).where(jobs.c.id == fence.job_id).values(drill_requested=None))
            record(
                tx, db, fence.job_id, EventType.DRILL_CARRIED_OUT, f"The worker does it now: {fault}.",
                attempt=fence.attempt, drill_id=drill_id, fault=str(fault),
            )  # fmt: skip
        return fault


def choose_checkpoint_to_damage(db: Database, fence: Fence, drill_id: str) -> JobRow | None:
    """The newest committed one, noted in the drill; None without one. Raises LeaseLost."""
    newest = (
        select(checkpoints)
        .where(checkpoints.c.job_id == fence.job_id, checkpoints.c.status == "committed")
        .order_by(checkpoints.c.step.desc(), checkpoints.c.id.desc())
        .limit(1)
    )
    with db.writing() as tx:
        holding(tx, fence)
        row = tx.execute(newest).one_or_none()
        if row is not None:
            tx.execute(update(drills).where(drills.c.id == drill_id).values(checkpoint_id=row.id))
        return row


def job_drills(db: Database, job_id: str, *, after: str | None = None, limit: int = 20) -> list[Drill]:
    """A job's drills, oldest first, from after the id ``after``. Raises NotFound."""
    wanted = select(drills).where(drills.c.job_id == job_id).order_by(drills.c.id).limit(limit)
    if after is not None:
        wanted = wanted.where(drills.c.id > after)
    with db.reading() as tx:
        job = expect_job(tx, job_id)
        rows = tx.execute(wanted).all()
        first = min((row.attempt for row in rows if row.attempt is not None), default=None)
        ledger: list[JobRow] = []
        if first is not None:
            since = select(attempts).where(attempts.c.job_id == job_id, attempts.c.attempt >= first)
            ledger = list(tx.execute(since.order_by(attempts.c.attempt)))
    return [_report(row, job.status, job.drill_requested, ledger) for row in rows]


def _expect_breakable(tx: Connection, job: JobRow, fault: Fault) -> None:
    if job.status != JobStatus.RUNNING:
        raise WrongState(f"The job is {job.status}; only a running job can be drilled.")
    if job.cancel_requested or job.pause_requested:
        raise WrongState("The job was asked to stop; a drill needs one that goes on.")
    drilled = select(attempts.c.drill).where(attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
    if job.drill_requested is not None or tx.execute(drilled).scalar_one() is not None:
        raise WrongState(f"A drill of this job is under way; `GET /jobs/{job.id}/drills` follows it.")
    if fault == Fault.CORRUPT_CHECKPOINT and job.committed_step == 0:
        raise WrongState(
            "There is no committed checkpoint to damage yet; the first one comes with the first epoch."
        )


def _mark_attempt(tx: Connection, fence: Fence, drill_id: str) -> None:
    tx.execute(
        update(attempts)
        .where(attempts.c.job_id == fence.job_id, attempts.c.attempt == fence.attempt)
        .values(drill=drill_id)
    )


def _report(row: JobRow, job_status: str, pending: str | None, ledger: list[JobRow]) -> Drill:
    """From the drill's row and the ledger from the attempt that it hit onwards."""
    known: dict[str, Any] = {
        "id": row.id, "job_id": row.job_id, "fault": Fault(row.fault), "requested_at": row.requested_at,
        "attempt": row.attempt, "carried_out_at": row.carried_out_at, "checkpoint_id": row.checkpoint_id,
    }  # fmt: skip
    if row.attempt is None:
        return Drill(status="requested" if pending == row.id else "dropped", **known)
    hit, *later = [line for line in ledger if line.attempt >= row.attempt]
    if hit.ended_at is None:
        return Drill(status="recovering", **known)
    known["detected_seconds"] = _seconds(row.carried_out_at, hit.ended_at)
    if hit.end_cause not in FAILURES:  # the attempt was over before the fault hit it
        return Drill(status="not_recovered", **known)
    return _recovery(row, job_status, later, known)


def _recovery(row: JobRow, job_status: str, later: list[JobRow], known: dict[str, Any]) -> Drill:
    """What came after an attempt that the drill ended."""
    is_back = [line.first_step_at or _finished_at(line) for line in later]
    place = next((place for place, instant in enumerate(is_back) if instant is not None), None)
    if place is None:
        goes_on = job_status in {JobStatus.RUNNING, JobStatus.QUEUED}
        return Drill(status="recovering" if goes_on else "not_recovered", **known)
    tries = later[: place + 1]
    known |= {
        "running_again_seconds": _seconds(row.carried_out_at, is_back[place]),
        "steps_redone": sum(line.steps_redone for line in tries),
        "exact": all(line.exact for line in tries),
    }
    return Drill(status="recovered", recovered=True, **known)


def _finished_at(line: JobRow) -> datetime | None:
    """Of an attempt that found nothing left to do but to finish the job."""
    return line.ended_at if line.end_cause == EndCause.FINISHED else None


def _seconds(since: datetime, until: datetime | None) -> float | None:
    # Never negative, though somebody may set the clock back meanwhile.
    return None if until is None else round(max(0.0, (until - since).total_seconds()), 3)
