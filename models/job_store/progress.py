"""What a running job reports; every write is fenced, and each answers what users asked for meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    UpdateBase,
    and_,
    bindparam,
    select,
    update,
)

from models.database import Database, deferred_lease_now
from models.errors import LeaseLost
from models.host import ProcessId, boot_id, pid_namespace
from models.job_state import FAILURES, EventType
from models.job_store.fence import ASKED, HELD, Fence, JobRow, Requests, holding, record
from models.job_store.replacing import insert_or_replace
from models.job_store.stream import Line, append, attempt_line, steps_line, tell
from models.tables import attempts, events, jobs, step_metrics

#: Why a job is not exact that was so until then.
_MISMATCH = "what was done again gave another number"


@dataclass(frozen=True)
class Position:
    """Where a trainer stands."""

    phase: str
    done: int
    total: int
    step: int | None  #: None until it said where it begins
    epochs_done: int


def renew(db: Database, fence: Fence, lease_seconds: float) -> Requests:
    """Prolong the lease from the database's now. Raises LeaseLost."""
    with db.writing() as tx:
        given = fence.values | {"lease_seconds": lease_seconds} | db.clock_values("lease_now")
        row = tx.execute(_renewing(db.is_sqlite), given).one_or_none()
    if row is None:
        raise LeaseLost
    return Requests.of(row)


@cache
def _renewing(is_sqlite: bool) -> UpdateBase:
    until = deferred_lease_now(is_sqlite=is_sqlite) + bindparam("lease_seconds", type_=Float)
    return update(jobs).where(HELD).values(lease_expires_at=until).returning(*ASKED)


def trainer_started(db: Database, fence: Fence, trainer: ProcessId) -> None:
    """Remember the trainer, so that a successor on this host can make sure that it is gone."""
    with db.writing() as tx:
        holding(tx, fence)
        tx.execute(
            update(jobs)
            .where(jobs.c.id == fence.job_id)
            .values(
                trainer_pid=trainer.pid,
                trainer_started_at=trainer.started_at,
                trainer_boot_id=boot_id(),
                trainer_pid_namespace=pid_namespace(),
            )
        )
        _update_attempt(tx, fence, trainer_pid=trainer.pid)


def dataset_checked(db: Database, fence: Fence, manifest_path: str, dataset: Mapping[str, Any]) -> None:
    """Keep what the first look at the dataset found; later attempts compare with it.

    Called again after a lost reply it changes nothing: an attempt looks once.
    """
    with db.writing() as tx:
        holding(tx, fence)
        if _is_told(tx, fence, events.c.type == EventType.DATASET_CHECKED):
            return
        tx.execute(
            update(jobs)
            .where(jobs.c.id == fence.job_id)
            .values(manifest_path=manifest_path, dataset=dict(dataset))
        )
        record(
            tx, db, fence.job_id, EventType.DATASET_CHECKED,
            f"{dataset['num_train']} training and {dataset['num_val']} validation images"
            f" in {len(dataset['classes'])} classes.",
            attempt=fence.attempt, **dataset,
        )  # fmt: skip


def prepared(
    db: Database,
    fence: Fence,
    *,
    slot: str,
    numerics: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    inexact_reasons: Sequence[str],
    from_checkpoint: str | None,
    epochs_done: int,
    step: int,
    steps: int,
) -> None:
    """The trainer stands at ``step`` of ``steps``; what lay beyond will be done again.

    Called again after a lost reply it changes nothing: the steps done again are counted once.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        if _is_told(tx, fence, events.c.type == EventType.RESUME_STARTED):
            return
        reasons = [*job.inexact_reasons, *(r for r in inexact_reasons if r not in job.inexact_reasons)]
        redone = max(0, job.step - step)
        tx.execute(
            update(jobs)
            .where(jobs.c.id == fence.job_id)
            .values(
                numerics=dict(numerics),
                # A clone begins with its parent's, and may have come to a worker of another kind.
                numerics_slot=slot if job.fingerprint is None else job.numerics_slot,
                fingerprint=dict(fingerprint),
                exact=not reasons,
                inexact_reasons=reasons,
                epochs_done=epochs_done,
                step=step,
                steps=steps,
                verify_next=False,
            )
        )
        _update_attempt(
            tx,
            fence,
            from_checkpoint=from_checkpoint,
            steps_redone=redone,
            exact=not inexact_reasons,
            inexact_reasons=list(inexact_reasons) or None,
        )
        for reason in reasons[len(job.inexact_reasons) :]:
            record(tx, db, fence.job_id, EventType.INEXACT, reason, attempt=fence.attempt)
        if fence.attempt > 1:
            record(
                tx, db, fence.job_id, EventType.RESUME_STARTED,
                f"Goes on after step {step}; {redone} steps are done again."
                if from_checkpoint else f"Starts from the beginning; {redone} steps are done again.",
                attempt=fence.attempt, checkpoint_id=from_checkpoint, step=step, steps_redone=redone,
            )  # fmt: skip


def first_step(db: Database, fence: Fence) -> None:
    """The attempt's first step is done; after a failure the ledger says how long that took since its end."""
    with db.writing() as tx:
        holding(tx, fence)
        now = tx.execute(select(db.now())).scalar_one()
        before = tx.execute(
            select(attempts.c.ended_at).where(
                attempts.c.job_id == fence.job_id,
                attempts.c.attempt == fence.attempt - 1,
                attempts.c.end_cause.in_(FAILURES),
            )
        ).scalar_one_or_none()
        restart = None if before is None else (now - before).total_seconds()
        attempt = _update_attempt(tx, fence, first_step_at=now, restart_seconds=restart)
        tell(tx, db, fence.job_id, [attempt_line(attempt)])


def record_progress(db: Database, fence: Fence, position: Position) -> Requests:
    """Where the trainer stands. Raises LeaseLost."""
    with db.writing() as tx:
        row = tx.execute(_PROGRESS, _progress(fence, position)).one_or_none()
    if row is None:
        raise LeaseLost
    return Requests.of(row)


def record_metrics(
    db: Database,
    fence: Fence,
    rows: Sequence[Mapping[str, Any]],
    position: Position,
) -> Requests:
    """Step rows with the progress that they prove; a replayed row replaces its predecessor."""
    with db.writing() as tx:
        job = holding(tx, fence)
        told = put_step_rows(tx, db, job, rows)
        asked = tx.execute(_PROGRESS, _progress(fence, position, len(told))).one()
        append(tx, db, job.id, asked.stream_count, told)
    return Requests.of(asked)


def record_event(db: Database, fence: Fence, key: str, kind: EventType, message: str, **data: Any) -> None:
    """A line in the trail from the attempt that runs.

    Called again with the same ``key``, after a lost reply, it changes nothing.
    """
    with db.writing() as tx:
        holding(tx, fence)
        if not _is_told(tx, fence, events.c.idempotency_key == key):
            record(
                tx, db, fence.job_id, kind, message,
                attempt=fence.attempt, idempotency_key=key, **data,
            )  # fmt: skip


def put_step_rows(tx: Connection, db: Database, job: JobRow, rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Insert or replace; a number that comes out differently the second time is told, never hidden.

    Answers what the caller is to tell: nothing of rows that the same attempt has stored before.
    """
    if not rows:
        return []
    stored = {
        row.step: row
        for row in tx.execute(
            select(step_metrics.c.step, step_metrics.c.loss, step_metrics.c.attempt).where(
                step_metrics.c.job_id == job.id,
                step_metrics.c.step.between(rows[0]["step"], rows[-1]["step"]),
            )
        )
    }
    before = {step: row.loss for step, row in stored.items()}
    different = [r for r in rows if r["step"] in before and before[r["step"]] != r["loss"]]
    if different and job.exact:
        first = different[0]
        tell_mismatch(
            tx, db, job,
            f"Step {first['step']} gave the loss {first['loss']!r}, and {before[first['step']]!r} before.",
            step=first["step"], steps=len(different),
        )  # fmt: skip
    stamp = {"job_id": job.id, "attempt": job.attempt}
    stamped = [{**row, **stamp, "is_finite": row["loss"] is not None} for row in rows]
    insert_or_replace(tx, db, step_metrics, ("job_id", "step"), stamped)
    mine = {step for step, row in stored.items() if row.attempt == job.attempt}
    news = [r for r in rows if r["step"] not in mine or before[r["step"]] != r["loss"]]
    return [steps_line(news, job.attempt)] if news else []


def tell_mismatch(tx: Connection, db: Database, job: JobRow, message: str, **data: Any) -> None:
    """What was done again came out differently, and nothing explains it: the job is exact no longer."""
    record(tx, db, job.id, EventType.DETERMINISM_MISMATCH, message, attempt=job.attempt, **data)
    told = {"exact": False, "inexact_reasons": [_MISMATCH]}
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(**told))
    _update_attempt(tx, Fence(job.id, job.attempt), **told)


def _is_told(tx: Connection, fence: Fence, by: ColumnElement[bool]) -> bool:
    """Whether the attempt has told this already; the caller holds the job's row."""
    mine = and_(events.c.job_id == fence.job_id, events.c.attempt == fence.attempt)
    return tx.execute(select(events.c.sequence).where(mine, by).limit(1)).first() is not None


#: Sets what it is executed with.
_PROGRESS = (
    update(jobs)
    .where(HELD)
    .values(stream_count=jobs.c.stream_count + bindparam("num_told", type_=Integer))
    .returning(*ASKED, jobs.c.stream_count)
)


def _progress(fence: Fence, position: Position, num_told: int = 0) -> dict[str, Any]:
    # Until the trainer is prepared it stands at no step; the last known one stays.
    reached = {} if position.step is None else {"step": position.step, "epochs_done": position.epochs_done}
    standing = {"phase": position.phase, "phase_done": position.done, "phase_total": position.total}
    return fence.values | {"num_told": num_told} | standing | reached


def _update_attempt(tx: Connection, fence: Fence, **values: Any) -> JobRow:
    return tx.execute(
        update(attempts)
        .where(attempts.c.job_id == fence.job_id, attempts.c.attempt == fence.attempt)
        .values(**values)
        .returning(attempts)
    ).one()
