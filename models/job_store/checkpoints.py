"""Checkpoints become real here: the row is the commit, and it seals the metrics up to its step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from models.database import Database
from models.errors import LeaseLost
from models.job_state import EventType
from models.job_store.claims import committed_checkpoints
from models.job_store.fence import HELD, Fence, JobRow, Requests, holding, record
from models.job_store.progress import put_step_rows, tell_mismatch
from models.job_store.replacing import insert_or_replace
from models.job_store.standing import best_epoch, end_to_go_back_to
from models.job_store.stream import Line, checkpoint_line, epoch_line
from models.tables import checkpoints, epoch_metrics, jobs

#: What an epoch gives again, to the last bit, when it is trained again.
_REPEATABLE = ("step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")


@dataclass(frozen=True)
class RecordedFiles:
    """What a job's rows point at; whatever else lies beside these files is garbage."""

    paths: frozenset[str]
    committed_step: int


@dataclass(frozen=True)
class Committed:
    requests: Requests
    pruned_paths: list[str]  #: rows are marked; the holder may unlink these files now


def commit_checkpoint(
    db: Database,
    fence: Fence,
    checkpoint: Mapping[str, Any],
    *,
    step_rows: Sequence[Mapping[str, Any]],
    epoch_rows: Sequence[Mapping[str, Any]],
    epochs_done: int,
    keep_last: int,
    stall_seconds: float = 0.0,
    write_seconds: float = 0.0,
) -> Committed:
    """Record a durable, verified file with all that it proves. Raises LeaseLost.

    Called again after a lost reply it changes nothing: the checkpoint's id is already there.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        asked = Requests.of(job)
        if tx.execute(select(checkpoints.c.id).where(checkpoints.c.id == checkpoint["id"])).first():
            return Committed(asked, [])
        committed = tx.execute(
            insert(checkpoints)
            .values(**checkpoint, job_id=job.id, attempt=job.attempt, status="committed", created_at=db.now())
            .returning(checkpoints)
        ).one()
        told = put_step_rows(tx, db, job, step_rows)
        if epoch_rows:
            stamp = {"job_id": job.id, "attempt": job.attempt}
            stamped = [{**row, **stamp} for row in epoch_rows]
            _expect_equal_epochs(tx, db, job, epoch_rows)
            insert_or_replace(tx, db, epoch_metrics, ("job_id", "epoch"), stamped)
            told += _sealed_epochs(tx, job, epoch_rows)
        step = checkpoint["step"]
        progressed = step > job.highest_committed_step
        tx.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                # Training goes on while a checkpoint is written: it may be further by now.
                step=max(step, job.step),
                epochs_done=max(epochs_done, job.epochs_done),
                committed_step=step,
                highest_committed_step=max(step, job.highest_committed_step),
                failures=0 if progressed else job.failures,
                losses=0 if progressed else job.losses,
                **(best_epoch(tx, job.id) if epoch_rows else {}),
            )
        )
        record(
            tx, db, job.id, EventType.CHECKPOINT_COMMITTED,
            f"Epoch {checkpoint['epoch']}, step {step}, {checkpoint['size_bytes'] / 1e6:.1f} MB.",
            attempt=job.attempt, checkpoint_id=checkpoint["id"], epoch=checkpoint["epoch"], step=step,
            stall_seconds=round(stall_seconds, 4), write_seconds=round(write_seconds, 4),
            told=[*told, checkpoint_line(committed)],
        )  # fmt: skip
        return Committed(asked, _prune(tx, db, job, keep_last))


def reject_checkpoint(db: Database, fence: Fence, checkpoint_id: str, reason: str) -> None:
    """Quarantine a recorded checkpoint that is not the file that was recorded; the one before it counts.

    Called again after a lost reply it changes nothing: it is in quarantine already.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        quarantined = tx.execute(
            update(checkpoints)
            .where(
                checkpoints.c.id == checkpoint_id,
                checkpoints.c.job_id == job.id,
                checkpoints.c.status == "committed",
            )
            .values(status="quarantined")
            .returning(checkpoints)
        ).one_or_none()
        if quarantined is None:
            return
        committed = tx.execute(
            select(func.coalesce(func.max(checkpoints.c.step), 0)).where(
                checkpoints.c.job_id == job.id, checkpoints.c.status == "committed"
            )
        ).scalar_one()
        tx.execute(update(jobs).where(jobs.c.id == job.id).values(committed_step=committed))
        record(
            tx, db, job.id, EventType.CHECKPOINT_QUARANTINED, reason,
            attempt=job.attempt, checkpoint_id=checkpoint_id, committed_step=committed,
            told=[checkpoint_line(quarantined)],
        )  # fmt: skip


def recorded_files(db: Database, fence: Fence) -> RecordedFiles:
    """The files that rows of this job point at, pruned ones left out. Raises LeaseLost."""
    with db.reading() as tx:
        committed = tx.execute(select(jobs.c.committed_step).where(HELD), fence.values)
        committed_step = committed.scalar_one_or_none()
        if committed_step is None:
            raise LeaseLost
        rows = tx.execute(
            select(checkpoints.c.path, checkpoints.c.frozen_path).where(
                checkpoints.c.job_id == fence.job_id, checkpoints.c.status != "pruned"
            )
        ).all()
    paths = frozenset(path for row in rows for path in row if path is not None)
    return RecordedFiles(paths, committed_step)


def _sealed_epochs(tx: Connection, job: JobRow, epoch_rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    sealed = select(epoch_metrics).where(
        epoch_metrics.c.job_id == job.id, epoch_metrics.c.epoch.in_([row["epoch"] for row in epoch_rows])
    )
    return [epoch_line(row) for row in tx.execute(sealed.order_by(epoch_metrics.c.epoch))]


def _expect_equal_epochs(
    tx: Connection, db: Database, job: JobRow, epoch_rows: Sequence[Mapping[str, Any]]
) -> None:
    """An epoch that comes out differently the second time is told, never hidden."""
    before = {
        row.epoch: row
        for row in tx.execute(
            select(epoch_metrics).where(
                epoch_metrics.c.job_id == job.id,
                epoch_metrics.c.epoch.in_([row["epoch"] for row in epoch_rows]),
            )
        )
    }
    for row in epoch_rows:
        old = before.get(row["epoch"])
        different = [name for name in _REPEATABLE if old and getattr(old, name) != row[name]]
        if different and job.exact:
            name = different[0]
            tell_mismatch(
                tx, db, job,
                f"Epoch {row['epoch']} gave {row[name]!r} as {name}, and {getattr(old, name)!r} before.",
                epoch=row["epoch"], fields=different,
            )  # fmt: skip


def _prune(tx: Connection, db: Database, job: JobRow, keep_last: int) -> list[str]:
    """Mark what retention lets go: all but the last ``keep_last``, the best, and the end to roll back to.

    Only after the newer one is committed, in the same transaction; the files go after it. A crash in
    between leaves files without a committed row, which are garbage, and never a row without its file.
    """
    best = tx.execute(select(jobs.c.best_checkpoint_id).where(jobs.c.id == job.id)).scalar_one()
    committed = committed_checkpoints(tx, job.id)
    kept = {best}
    if job.spec["fault_tolerance"].get("on_non_finite") == "rollback":
        end = end_to_go_back_to(job, committed)
        kept |= {end.id} if end else set()
    surplus = [row for row in committed[keep_last:] if row.id not in kept]
    if surplus:
        pruned = tx.execute(
            update(checkpoints)
            .where(checkpoints.c.id.in_([row.id for row in surplus]))
            .values(status="pruned")
            .returning(checkpoints)
        )
        record(
            tx, db, job.id, EventType.CHECKPOINT_PRUNED, f"{len(surplus)} older checkpoints let go.",
            attempt=job.attempt, checkpoint_ids=[row.id for row in surplus],
            told=[checkpoint_line(row) for row in pruned],
        )  # fmt: skip
    return [row.path for row in surplus]
