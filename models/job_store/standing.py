"""The metrics that stand: those of the weights that a job goes on with, and the best of them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, and_, delete, select

from models.job_store.fence import JobRow
from models.tables import checkpoints, epoch_metrics, step_metrics


def drop_metrics_beyond(tx: Connection, job_id: str, step: int) -> None:
    """Rows beyond ``step`` belong to weights that nobody goes on with; the caller holds the job's row."""
    for table in (step_metrics, epoch_metrics):
        tx.execute(delete(table).where(table.c.job_id == job_id, table.c.step > step))


def best_epoch(tx: Connection, job_id: str) -> dict[str, Any]:
    """The job's columns for its best: of all rows as they are now, the lowest loss, of equals the earlier.

    Never by comparing a new row with the best so far: computed elsewhere, an epoch may come out worse the
    second time, and the best is another one then. Its checkpoint is the one that the same attempt wrote at
    the epoch's end; None where it wrote none there, or retention let it go.
    """
    ends_it = and_(
        checkpoints.c.job_id == epoch_metrics.c.job_id,
        checkpoints.c.step == epoch_metrics.c.step,
        checkpoints.c.attempt == epoch_metrics.c.attempt,
        checkpoints.c.status != "pruned",
    )
    best = tx.execute(
        select(epoch_metrics, checkpoints.c.id.label("checkpoint_id"))
        .outerjoin(checkpoints, ends_it)
        .where(epoch_metrics.c.job_id == job_id, epoch_metrics.c.val_loss.is_not(None))
        .order_by(epoch_metrics.c.val_loss, epoch_metrics.c.epoch)
        .limit(1)
    ).one_or_none()
    return {
        "best_epoch": best.epoch if best else None,
        "best_val_loss": best.val_loss if best else None,
        "best_val_accuracy": best.val_accuracy if best else None,
        "best_checkpoint_id": best.checkpoint_id if best else None,
    }


def end_to_go_back_to(job: JobRow, committed: Sequence[JobRow]) -> JobRow | None:
    """The last of these checkpoints that the plan wants at an epoch's end; ``committed`` is in falling order.

    Where one is saved at every second epoch, a stop by SIGTERM leaves others: when it came depends on the
    clock, and the result of a rollback must not.
    """
    every = job.spec["fault_tolerance"].get("checkpoint_every", {}).get("epochs", 1)
    last_epochs = set(accumulate(segment["epochs"] for segment in job.segments))
    return next(
        (
            row
            for row in committed
            if row.val_loss is not None and (row.epoch % every == 0 or row.epoch in last_epochs)
        ),
        None,
    )
