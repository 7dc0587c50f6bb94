"""What users ask of a job: each request is one transaction that either has its effect or says why not."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, select, update

from models.database import Database
from models.errors import WrongState
from models.job_spec import Segment
from models.job_state import FINISHED, EventType, JobStatus
from models.job_store.fence import JobRow, locked, record
from models.job_store.quotas import expect_room_in_queue
from models.tables import jobs


class Effect(Enum):
    DONE = auto()  #: the job is where it was asked to go, now or before
    REQUESTED = auto()  #: its worker will see to it


@dataclass(frozen=True)
class Answer:
    job: JobRow
    effect: Effect


def cancel(db: Database, job_id: str) -> Answer:
    """Stop for good. Raises NotFound, WrongState for a job that finished otherwise."""
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.status == JobStatus.CANCELLED:
            return Answer(job, Effect.DONE)
        if job.status in FINISHED:
            raise WrongState(f"The job has {job.status} already; a finished job cannot be cancelled.")
        if job.status == JobStatus.RUNNING:
            return _request(tx, db, job, EventType.CANCEL_REQUESTED, cancel_requested=True)
        return _move(
            tx,
            db,
            job,
            JobStatus.CANCELLED,
            EventType.CANCELLED,
            finished_at=db.now(),
            **_unpaused(tx, db, job),
        )


def pause(db: Database, job_id: str) -> Answer:
    """Stop at a checkpoint until `resume`. Raises NotFound, WrongState for a finished job."""
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.status == JobStatus.PAUSED:
            return Answer(job, Effect.DONE)
        if job.status in FINISHED:
            raise WrongState(f"The job has {job.status} already; a finished job cannot be paused.")
        if job.status == JobStatus.RUNNING:
            return _request(tx, db, job, EventType.PAUSE_REQUESTED, pause_requested=True)
        return _move(tx, db, job, JobStatus.PAUSED, EventType.PAUSED, paused_at=db.now())


def resume(db: Database, job_id: str, max_queued: int | None = None) -> Answer:
    """paused -> queued; takes back a pause that was not carried out yet.

    Raises NotFound, WrongState, and QuotaExceeded as ``create_job`` does.
    """
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.status == JobStatus.RUNNING and job.pause_requested:
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(pause_requested=False))
            record(tx, db, job.id, EventType.RESUMED, "The pause was taken back.", attempt=job.attempt)
            return Answer(_again(tx, job_id), Effect.DONE)
        if job.status != JobStatus.PAUSED:
            raise WrongState(f"The job is {job.status}; only a paused job can be resumed.")
        values = _unpaused(tx, db, job) | _queued(db, job) | {"verify_next": True}
        return _queue_again(tx, db, job, EventType.RESUMED, max_queued, **values)


def retry(db: Database, job_id: str, max_queued: int | None = None) -> Answer:
    """failed or cancelled -> queued, from the last checkpoint with budgets reset and nothing changed.

    Raises NotFound, WrongState, QuotaExceeded.
    """
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.status not in {JobStatus.FAILED, JobStatus.CANCELLED}:
            raise WrongState(f"The job is {job.status}; only a failed or cancelled job can be retried.")
        return _queue_again(
            tx, db, job, EventType.RETRIED, max_queued,
            failures=0, losses=0, error_code=None, error_message=None, **_queued(db, job),
            **_unfinished(tx, db, job),
        )  # fmt: skip


def extend(
    db: Database,
    job_id: str,
    additional_epochs: int,
    scheduler: str | None = None,
    max_queued: int | None = None,
) -> Answer:
    """succeeded -> queued with a segment of more epochs, whose schedule starts anew.

    Raises NotFound, WrongState, QuotaExceeded.
    """
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.status != JobStatus.SUCCEEDED:
            raise WrongState(f"The job is {job.status}; only a job that succeeded can be extended.")
        kind = scheduler or job.segments[-1]["scheduler"]
        segment = Segment.model_validate({"epochs": additional_epochs, "scheduler": kind})
        # After an early stop the planned rest is given up: the new segment begins where the job stands.
        planned = _segments_done(job.segments, job.epochs_done)
        return _queue_again(
            tx, db, job, EventType.EXTENDED, max_queued,
            segments=[*planned, segment.model_dump()], epochs=job.epochs_done + additional_epochs,
            steps=None, weights_sha256=None, failures=0, losses=0, verify_next=True,
            **_queued(db, job), **_unfinished(tx, db, job),
        )  # fmt: skip


def _segments_done(segments: list[dict[str, Any]], epochs_done: int) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = []
    for segment in segments:
        epochs = min(segment["epochs"], epochs_done)
        if epochs > 0:
            # A replay of these epochs must see the learning rates of the schedule as it was planned.
            planned = segment["planned_epochs"] or segment["epochs"]
            done.append({**segment, "epochs": epochs, "planned_epochs": planned})
        epochs_done -= epochs
    return done


def _request(tx: Connection, db: Database, job: JobRow, kind: EventType, **values: Any) -> Answer:
    [column] = values
    if not getattr(job, column):
        tx.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
        record(tx, db, job.id, kind, "Asked for; takes effect at the next step.", attempt=job.attempt)
    return Answer(_again(tx, job.id), Effect.REQUESTED)


def _move(tx: Connection, db: Database, job: JobRow, to: JobStatus, kind: EventType, **values: Any) -> Answer:
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(status=to, **values))
    record(tx, db, job.id, kind, f"{job.status} -> {to}, as asked.", attempt=job.attempt)
    return Answer(_again(tx, job.id), Effect.DONE)


def _queue_again(
    tx: Connection, db: Database, job: JobRow, kind: EventType, max_queued: int | None, **values: Any
) -> Answer:
    answer = _move(tx, db, job, JobStatus.QUEUED, kind, **values)
    expect_room_in_queue(tx, db, job.tenant_id, max_queued)
    return answer


def _queued(db: Database, job: JobRow) -> dict[str, Any]:
    return {"queued_at": db.now(), "exact_until": db.unix_now() + job.exact_wait_seconds}


def _unpaused(tx: Connection, db: Database, job: JobRow) -> dict[str, Any]:
    if job.paused_at is None:
        return {}
    return {"paused_at": None, "paused_seconds": _idle_since(tx, db, job, job.paused_at)}


def _unfinished(tx: Connection, db: Database, job: JobRow) -> dict[str, Any]:
    """The time that a job lay finished is no loss of its goodput."""
    return {"finished_at": None, "paused_seconds": _idle_since(tx, db, job, job.finished_at)}


def _idle_since(tx: Connection, db: Database, job: JobRow, since: datetime) -> float:
    idle = tx.execute(select(db.now())).scalar_one() - since
    return float(job.paused_seconds + max(0.0, idle.total_seconds()))


def _again(tx: Connection, job_id: str) -> JobRow:
    return tx.execute(select(jobs).where(jobs.c.id == job_id)).one()
