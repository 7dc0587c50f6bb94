"""A loss without bounds: back to the last epoch's end, and on from there at a lower learning rate."""

from typing import Any

from sqlalchemy import Connection, delete, select, update

from models.database import Database
from models.job_state import EndCause, EventType
from models.job_store.fence import Fence, JobRow, holding
from models.job_store.restarts import Restarted, next_attempt
from models.tables import checkpoints, epoch_metrics, step_metrics

FACTOR = 0.5
#: A rate that was halved so often and still has no bounds will not get any.
MAX_ROLLBACKS = 5


def roll_back(
    db: Database, fence: Fence, detail: str, *, device: str, lease_seconds: float
) -> Restarted | None:
    """running -> running from the last epoch's end that a checkpoint holds, else from the beginning.

    Always from there, never from a checkpoint within an epoch: when those are written depends on the clock,
    and the result must not. None when the job was rolled back too often, or was asked to stop.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        segments = [dict(segment) for segment in job.segments]
        done_before = sum(len(segment.get("slowdowns") or ()) for segment in segments)
        if done_before >= MAX_ROLLBACKS or job.cancel_requested or job.pause_requested:
            return None
        target = _last_epoch_end(tx, job)
        step, epoch = (target.step, target.epoch) if target else (0, 0)
        segments[-1]["slowdowns"] = [
            *(segments[-1].get("slowdowns") or ()), {"after_step": step, "factor": FACTOR},
        ]  # fmt: skip
        _abandon(tx, job, step, epoch)
        return next_attempt(
            tx, db, job, EndCause.TRAINER_ERROR,
            f"{detail} Back to step {step}, at {FACTOR:g} of the learning rate.",
            event=EventType.ROLLED_BACK, device=device, detection_seconds=0.0, lease_seconds=lease_seconds,
            segments=segments, step=step, epochs_done=epoch, committed_step=step, **_best(tx, job, epoch),
        )  # fmt: skip


def _last_epoch_end(tx: Connection, job: JobRow) -> JobRow | None:
    return tx.execute(
        select(checkpoints)
        .where(
            checkpoints.c.job_id == job.id,
            checkpoints.c.status == "committed",
            checkpoints.c.val_loss.is_not(None),
        )
        .order_by(checkpoints.c.step.desc(), checkpoints.c.id.desc())
        .limit(1)
    ).one_or_none()


def _abandon(tx: Connection, job: JobRow, step: int, epoch: int) -> None:
    """What lies beyond belongs to weights that nobody goes on with; its files are cleared away later."""
    beyond = (checkpoints.c.job_id == job.id, checkpoints.c.status == "committed", checkpoints.c.step > step)
    tx.execute(update(checkpoints).where(*beyond).values(status="pruned"))
    tx.execute(delete(step_metrics).where(step_metrics.c.job_id == job.id, step_metrics.c.step > step))
    tx.execute(delete(epoch_metrics).where(epoch_metrics.c.job_id == job.id, epoch_metrics.c.epoch > epoch))


def _best(tx: Connection, job: JobRow, epoch: int) -> dict[str, Any]:
    """The best of the epochs that remain, if the best one does not."""
    if job.best_epoch is None or job.best_epoch <= epoch:
        return {}
    row = tx.execute(
        select(epoch_metrics)
        .where(epoch_metrics.c.job_id == job.id, epoch_metrics.c.val_loss.is_not(None))
        .order_by(epoch_metrics.c.val_loss, epoch_metrics.c.epoch)
        .limit(1)
    ).one_or_none()
    return {
        "best_epoch": row.epoch if row else None,
        "best_val_loss": row.val_loss if row else None,
        "best_val_accuracy": row.val_accuracy if row else None,
        "best_checkpoint_id": None,
    }
