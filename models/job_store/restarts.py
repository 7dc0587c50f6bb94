"""How a worker goes on with its job on the spot, under the next attempt: ``running`` to ``running``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, update

from models.database import Database
from models.errors import NoProgress
from models.job_state import EndCause, EventType, JobStatus
from models.job_store.claims import committed_checkpoints, open_attempt
from models.job_store.endings import CAUSE_OF, attempt_seconds, close_attempt, leave, settled, was_drilled
from models.job_store.fence import Fence, JobRow, holding, record
from models.job_store.stream import Line
from models.tables import jobs


@dataclass(frozen=True)
class Restarted:
    """The same worker goes on with the job under a new attempt."""

    fence: Fence
    job: JobRow
    checkpoints: list[JobRow]


def restart_attempt(
    db: Database,
    fence: Fence,
    cause: EndCause,
    detail: str,
    *,
    device: str,
    step: int | None,
    detection_seconds: float | None,
    lease_seconds: float,
    split_batches: bool = False,
    on_the_spot: bool = True,
) -> Restarted | JobStatus:
    """running -> running under the next attempt: how a supervisor resumes on the spot after a failure.

    Spends one failure, unless a drill was what ended the attempt. A pending request, or a spent budget, ends
    the job instead, and not ``on_the_spot`` it goes back to the queue: then its new status.
    ``step`` is the last one that the dead trainer was seen to do, None if it was not that far.
    ``split_batches``: from now on in twice as many parts, since memory was too small.
    Raises LeaseLost.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        smaller = _split(job) if split_batches else {}
        is_drill = was_drilled(tx, job)
        # What changes before the next try is no failure; a batch can be split a dozen times at most.
        is_free = is_drill or bool(smaller)
        failures = job.failures + (not is_free)
        values = {"failures": failures, "step": job.step if step is None else step, **smaller}
        is_spent = failures >= job.max_failures and not is_free
        goes_on = JobStatus.RUNNING if on_the_spot else JobStatus.QUEUED
        to = settled(job, JobStatus.FAILED if is_spent else goes_on)
        if to != JobStatus.RUNNING:
            given_up = f"{failures} failures in a row without getting any further; the last: {detail}"
            leave(
                tx, db, job, to, CAUSE_OF.get(to, cause), given_up if to == JobStatus.FAILED else detail,
                error=(NoProgress.code, given_up), detection_seconds=detection_seconds,
                recoveries=job.recoveries + (to == JobStatus.QUEUED), **values,
            )  # fmt: skip
            return to
        return next_attempt(
            tx, db, job, cause, detail, event=EventType.RESTARTED, device=device,
            detection_seconds=detection_seconds, lease_seconds=lease_seconds, **values,
        )  # fmt: skip


def _split(job: JobRow) -> dict[str, Any]:
    """The numerics with twice as many parts a batch; nothing where parts would be single samples."""
    if job.numerics is None:
        return {}
    parts = 2 * job.numerics.get("micro_batches", 1)
    if parts > job.spec["hyperparameters"]["batch_size"] // 2:
        return {}
    return {"numerics": job.numerics | {"micro_batches": parts}}


def next_attempt(
    tx: Connection,
    db: Database,
    job: JobRow,
    cause: EndCause,
    detail: str,
    *,
    event: EventType,
    device: str,
    detection_seconds: float | None,
    lease_seconds: float,
    told: Sequence[Line] = (),
    **values: Any,
) -> Restarted:
    """Close a line of the ledger and open the next, under the same lease; the caller holds the job's row."""
    closed = close_attempt(tx, db, job, cause, detail, detection_seconds)
    renewed = tx.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            **values,
            attempt=job.attempt + 1,
            recoveries=job.recoveries + 1,
            lease_expires_at=db.lease_now() + lease_seconds,
            running_seconds=job.running_seconds + attempt_seconds(tx, job),
            claimed_at=db.now(),
            phase=None,
        )
        .returning(jobs)
    ).one()
    record(
        tx, db, job.id, event, detail, attempt=renewed.attempt, cause=str(cause), step=renewed.step,
        told=[closed, *told, open_attempt(tx, db, renewed, device)],
    )  # fmt: skip
    return Restarted(Fence(job.id, renewed.attempt), renewed, committed_checkpoints(tx, job.id))
