"""Whether the database says what the model says, row by row."""

from typing import Any

from sqlalchemy import func, select

from models.database import Database
from models.job_state import EventType, JobStatus
from models.tables import attempts, checkpoints, epoch_metrics, events, jobs, step_metrics
from tests.contract.machine.model import STEPS_PER_EPOCH, ModelJob


def expect_equal(db: Database, model: list[ModelJob]) -> None:
    """Every job with its checkpoints, metrics and steps done again. Raises AssertionError."""
    with db.reading() as tx:
        found = {job.id: job for job in tx.execute(select(jobs)).all()}
        rows: dict[str, dict[str, dict[Any, Any]]] = {
            "checkpoints": {}, "steps": {}, "epochs": {}, "redone": {}
        }  # fmt: skip
        for row in tx.execute(select(checkpoints)):
            _put(rows["checkpoints"], row.job_id, row.id, (row.status, row.step, row.attempt, row.path))
        for row in tx.execute(select(step_metrics)):
            _put(rows["steps"], row.job_id, row.step, (row.attempt, row.loss))
        for row in tx.execute(select(epoch_metrics)):
            _put(rows["epochs"], row.job_id, row.epoch, (row.attempt, row.val_loss))
        for row in tx.execute(select(attempts)):
            _put(rows["redone"], row.job_id, row.attempt, row.steps_redone)
        mismatches = tx.execute(
            select(func.count()).where(events.c.type == EventType.DETERMINISM_MISMATCH)
        ).scalar_one()
    assert found.keys() == {job.id for job in model}, "one job for each accepted request (I9)"
    assert mismatches == 0, "equal numerics gave another loss"
    for job in model:
        _expect_equal_job(found[job.id], job)
        kept = {name: by_job.get(job.id, {}) for name, by_job in rows.items()}
        assert kept["checkpoints"] == {c.id: (c.status, c.step, c.attempt, c.path) for c in job.checkpoints}
        assert kept["steps"] == job.steps, "one row for each step, of the attempt that did it last (I3)"
        assert kept["epochs"] == job.ends, "one row for each epoch, of the attempt that sealed it last (I3)"
        assert kept["redone"] == {n: job.redone.get(n, 0) for n in range(1, job.attempt + 1)}
        if job.status == JobStatus.SUCCEEDED:
            expect_surviving_rows(job)


def _put(rows: dict[str, dict[Any, Any]], job_id: str, key: Any, value: Any) -> None:
    rows.setdefault(job_id, {})[key] = value


def _expect_equal_job(row: Any, job: ModelJob) -> None:
    best = job.best_epoch
    believed = {
        "status": job.status, "attempt": job.attempt, "failures": job.failures, "losses": job.losses,
        "recoveries": job.recoveries, "cancel_requested": job.cancel, "pause_requested": job.pause,
        "step": job.step, "epochs_done": job.epochs_done, "epochs": job.epochs,
        "committed_step": job.committed_step, "highest_committed_step": job.highest,
        "numerics_slot": job.slot, "inexact_reasons": job.reasons, "exact": not job.reasons,
        "best_epoch": best, "best_val_loss": None if best is None else job.ends[best][1],
        "best_checkpoint_id": job.best_checkpoint.id if job.best_checkpoint else None,
    }  # fmt: skip
    found = {name: getattr(row, name) for name in believed}
    assert found == believed, {name: (found[name], believed[name]) for name in believed
                               if found[name] != believed[name]}  # fmt: skip


def expect_surviving_rows(job: ModelJob) -> None:
    """After success there is one row for each step and epoch, of the weights that survive (I3)."""
    final = job.usable[0]
    epochs_done = final.step // STEPS_PER_EPOCH
    assert {step: attempt for step, (attempt, _) in job.steps.items()} == final.trained
    assert {epoch: attempt for epoch, (attempt, _) in job.ends.items()} == final.ended
    assert set(final.trained) == set(range(1, final.step + 1))
    assert set(final.ended) == set(range(1, epochs_done + 1))
