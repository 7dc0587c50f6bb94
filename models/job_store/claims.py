"""A worker takes a job: one conditional statement decides who, so that ten doorbells make one claim."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, or_, select, update

from models.database import Database
from models.host import Owner
from models.job_state import EventType, JobStatus
from models.job_store.fence import Fence, JobRow, record
from models.job_store.stream import Line, attempt_line
from models.tables import attempts, checkpoints, jobs


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
    """The claimable job of highest priority, then the oldest, that fits this device; None without one.

    ``not_now``: ids of jobs that this worker leaves to others for the moment.

    A job that has numerics goes to a worker whose slot computes the same bits, until it has waited
    ``exact_wait_seconds`` for one.
    """
    left_alone = [jobs.c.id.not_in(not_now)] if not_now else []
    candidate = (
        select(jobs.c.id)
        .where(jobs.c.status == JobStatus.QUEUED, jobs.c.device_class.in_(["any", device]), *left_alone)
        .where(
            or_(
                jobs.c.numerics_slot.is_(None),
                jobs.c.numerics_slot == slot,
                jobs.c.exact_until <= db.unix_now(),
            )
        )
        .order_by(jobs.c.priority.desc(), jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        # Materialised, since a planner that evaluated the subselect twice would lock two jobs.
        .cte("candidate")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    with db.writing() as tx:
        job = tx.execute(
            update(jobs)
            .where(jobs.c.id.in_(select(candidate.c.id)))
            .values(
                status=JobStatus.RUNNING,
                attempt=jobs.c.attempt + 1,
                worker_id=owner.worker_id,
                lease_expires_at=db.lease_now() + lease_seconds,
                owner_host=owner.host,
                owner_boot_id=owner.boot_id,
                owner_pid_namespace=owner.pid_namespace,
                owner_pid=owner.process.pid,
                owner_started_at=owner.process.started_at,
                claimed_at=db.now(),
                phase=None,
            )
            .returning(jobs)
        ).one_or_none()
        if job is None:
            return None
        if job.first_claimed_at is None:
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(first_claimed_at=db.now()))
        record(
            tx, db, job.id, EventType.CLAIMED, f"Claimed by {owner.worker_id} on {owner.host}.",
            attempt=job.attempt, worker_id=owner.worker_id, host=owner.host,
            told=[open_attempt(tx, db, job, device)],
        )  # fmt: skip
        return Claim(Fence(job.id, job.attempt), job, committed_checkpoints(tx, job.id))


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
    opened = tx.execute(
        insert(attempts)
        .values(
            job_id=job.id,
            attempt=job.attempt,
            worker_id=job.worker_id,
            worker_pid=job.owner_pid,
            host=job.owner_host,
            device=device,
            started_at=db.now(),
        )
        .returning(attempts)
    )
    return attempt_line(opened.one())


def committed_checkpoints(tx: Connection, job_id: str) -> list[JobRow]:
    """What a resume may load, newest first."""
    return list(
        tx.execute(
            select(checkpoints)
            .where(checkpoints.c.job_id == job_id, checkpoints.c.status == "committed")
            .order_by(checkpoints.c.step.desc(), checkpoints.c.id.desc())
        )
    )
