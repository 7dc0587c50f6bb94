"""A loss without bounds: back to the last epoch's end, and on from there at a lower learning rate."""

from sqlalchemy import Connection, update

from models.database import Database
from models.job_state import EndCause, EventType, JobStatus
from models.job_store.claims import committed_checkpoints
from models.job_store.endings import CAUSE_OF, leave, settled
from models.job_store.fence import Fence, JobRow, holding
from models.job_store.restarts import Restarted, next_attempt
from models.job_store.standing import best_epoch, drop_metrics_beyond, end_to_go_back_to
from models.job_store.stream import Line, checkpoint_line
from models.tables import checkpoints

FACTOR = 0.5
#: A rate that was halved so often and still has no bounds will not get any.
MAX_ROLLBACKS = 5


def roll_back(
    db: Database, fence: Fence, detail: str, *, device: str, lease_seconds: float
) -> Restarted | JobStatus | None:
    """running -> running from the last epoch's end that a checkpoint holds, else from the beginning.

    Always from there, never from a checkpoint within an epoch: when those are written depends on the clock,
    and the result must not. A pending request ends the job instead: then its new status; resumed after a
    pause, it comes to the same loss and is rolled back then. None when it was rolled back too often.
    Raises LeaseLost.
    """
    with db.writing() as tx:
        job = holding(tx, fence)
        to = settled(job, JobStatus.RUNNING)
        if to != JobStatus.RUNNING:
            leave(tx, db, job, to, CAUSE_OF[to], detail, detection_seconds=0.0)
            return to
        segments = [dict(segment) for segment in job.segments]
        done_before = sum(len(segment.get("slowdowns") or ()) for segment in segments)
        if done_before >= MAX_ROLLBACKS:
            return None
        target = end_to_go_back_to(job, committed_checkpoints(tx, job.id))
        step, epoch = (target.step, target.epoch) if target else (0, 0)
        segments[-1]["slowdowns"] = [
            *(segments[-1].get("slowdowns") or ()), {"after_step": step, "factor": FACTOR},
        ]  # fmt: skip
        told = _abandon(tx, job, step)
        return next_attempt(
            tx, db, job, EndCause.TRAINER_ERROR,
            f"{detail} Back to step {step}, at {FACTOR:g} of the learning rate.",
            event=EventType.ROLLED_BACK, device=device, detection_seconds=0.0, lease_seconds=lease_seconds,
            told=told, segments=segments, step=step, epochs_done=epoch, committed_step=step,
            **best_epoch(tx, job.id),
        )  # fmt: skip


def _abandon(tx: Connection, job: JobRow, step: int) -> list[Line]:
    """What lies beyond belongs to weights that nobody goes on with; its files are cleared away later."""
    beyond = (checkpoints.c.job_id == job.id, checkpoints.c.status == "committed", checkpoints.c.step > step)
    pruned = tx.execute(update(checkpoints).where(*beyond).values(status="pruned").returning(checkpoints))
    lines = [checkpoint_line(row) for row in pruned]
    drop_metrics_beyond(tx, job.id, step)
    return lines
