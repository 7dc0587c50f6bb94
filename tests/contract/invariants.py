"""What holds in a database at any moment, whatever happened before; docs/checkers.md says it in words."""

import math
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, select

from models.database import Database
from models.job_state import EventType, JobStatus
from models.job_store.fence import JobRow
from models.tables import attempts, checkpoints, epoch_metrics, events, jobs, step_metrics, stream

Q, R, P = JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED
S, F, C = JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED

#: Transitions: from which states, to which one.
EDGES: dict[str, tuple[set[JobStatus], JobStatus]] = {
    EventType.CLAIMED: ({Q}, R),
    EventType.RESTARTED: ({R}, R),
    EventType.ROLLED_BACK: ({R}, R),
    EventType.RELEASED: ({R}, Q),
    EventType.EXPIRED: ({R}, Q),
    EventType.SUCCEEDED: ({R}, S),
    EventType.FAILED: ({R}, F),
    EventType.PAUSED: ({Q, R}, P),
    EventType.CANCELLED: ({Q, R, P}, C),
    EventType.RETRIED: ({F, C}, Q),
    EventType.EXTENDED: ({S}, Q),
}
NEW_ATTEMPT = {EventType.CLAIMED, EventType.RESTARTED, EventType.ROLLED_BACK}


def check_invariants(db: Database) -> None:
    """Every job in one consistent look. Raises AssertionError."""
    with db.reading() as tx:
        for job in tx.execute(select(jobs)).all():
            check_trail(tx, job)
            check_ledger(tx, job)
            check_checkpoints(tx, job)
            check_metrics(tx, job)
            check_stream(tx, job)


def check_trail(tx: Connection, job: JobRow) -> None:
    """Events are numbered without gaps and are a legal path to the job's state."""
    trail = tx.execute(select(events).where(events.c.job_id == job.id).order_by(events.c.sequence)).all()
    assert [event.sequence for event in trail] == list(range(1, job.event_count + 1)), job.id
    assert trail[0].type == EventType.CREATED
    status, attempt = Q, 0
    kinds = [event.type for event in trail]
    for event in trail[1:]:
        if event.type in NEW_ATTEMPT:
            attempt += 1
        assert event.attempt == attempt, kinds
        if event.type in EDGES:
            origins, target = EDGES[EventType(event.type)]
            assert status in origins, kinds
            status = target
        elif event.type == EventType.RESUMED:  # or a pause that was not carried out yet is taken back
            assert status in {P, R}, kinds
            status = Q if status == P else R
        else:
            assert status == R, kinds  # whatever else is told happens while a worker runs the job
    assert (status, attempt) == (job.status, job.attempt), kinds


def check_ledger(tx: Connection, job: JobRow) -> None:
    """One line for each attempt; only that of a running job is open."""
    ledger = tx.execute(
        select(attempts).where(attempts.c.job_id == job.id).order_by(attempts.c.attempt)
    ).all()
    assert [line.attempt for line in ledger] == list(range(1, job.attempt + 1))
    for line in ledger:
        is_open = job.status == R and line.attempt == job.attempt
        assert (line.ended_at is None) == is_open, (job.status, line.attempt, line.end_cause)
        assert line.ended_at is None or line.ended_at >= line.started_at
    for before, after in pairwise(ledger):
        assert before.ended_at is not None and before.ended_at <= after.started_at


def check_checkpoints(tx: Connection, job: JobRow) -> None:
    """The committed step is that of the newest usable checkpoint; no more than that was promised."""
    rows = tx.execute(select(checkpoints).where(checkpoints.c.job_id == job.id)).all()
    usable = [row for row in rows if row.status == "committed"]
    assert job.committed_step == max((row.step for row in usable), default=0)
    assert job.highest_committed_step == max((row.step for row in rows), default=0)
    assert all(row.attempt <= job.attempt for row in rows)
    if job.best_checkpoint_id is not None:
        [best] = [row for row in rows if row.id == job.best_checkpoint_id]
        assert best.status != "pruned", "the best was let go"
    rolled_back = select(events.c.type).where(
        events.c.job_id == job.id, events.c.type == EventType.ROLLED_BACK
    )
    if rows and not usable and tx.execute(rolled_back).first() is None:
        assert all(row.status == "quarantined" for row in rows if row.step == job.highest_committed_step)


def check_metrics(tx: Connection, job: JobRow) -> None:
    """Rows belong to attempts that were; a loss is there exactly where it is finite."""
    for table in (step_metrics, epoch_metrics):
        for row in tx.execute(select(table).where(table.c.job_id == job.id)):
            assert 1 <= row.attempt <= job.attempt
            if table is step_metrics:
                assert row.is_finite == (row.loss is not None)


def check_stream(tx: Connection, job: JobRow) -> None:
    """Its lines are numbered without gaps; whoever read them all knows what the other tables say."""
    lines = tx.execute(select(stream).where(stream.c.job_id == job.id).order_by(stream.c.sequence)).all()
    assert [line.sequence for line in lines] == list(range(1, job.stream_count + 1)), job.id
    trail = tx.execute(select(events).where(events.c.job_id == job.id).order_by(events.c.sequence)).all()
    told = [(line.data["sequence"], line.data["type"]) for line in lines if line.kind == "event"]
    assert told == [(event.sequence, event.type) for event in trail]
    status = [line.data for line in lines if line.kind == "status"][-1]
    assert status["status"] == job.status and status["final"] == (job.status in {S, F, C})
    ledger: dict[int, Any] = {}
    files: dict[str, str] = {}
    metrics: dict[str, dict[int, Any]] = {"step": {}, "epoch": {}}
    for line in lines:
        match line.kind:
            case "attempt":
                ledger[line.data["attempt"]] = line.data["end_cause"]
            case "checkpoint":
                files[line.data["id"]] = line.data["status"]
            case "metric":
                _learn(metrics, line.data)
            case "event" if line.data["type"] in {EventType.ROLLED_BACK, EventType.SUCCEEDED}:
                _forget(metrics, line.data["data"]["step"])
    rows = {
        table: tx.execute(select(table).where(table.c.job_id == job.id)).all()
        for table in (attempts, checkpoints, step_metrics, epoch_metrics)
    }
    assert ledger == {row.attempt: row.end_cause for row in rows[attempts]}
    assert files == {row.id: row.status for row in rows[checkpoints]}
    assert metrics["step"] == {row.step: (row.step, row.loss, row.attempt) for row in rows[step_metrics]}
    epochs = {row.epoch: (row.step, _finite(row.val_loss), row.attempt) for row in rows[epoch_metrics]}
    assert metrics["epoch"] == epochs


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _learn(metrics: dict[str, dict[int, Any]], told: dict[str, Any]) -> None:
    if told["granularity"] == "epoch":
        metrics["epoch"][told["epoch"]] = (told["step"], told["val_loss"], told["attempt"])
    else:
        rows = [dict(zip(told["columns"], row, strict=True)) for row in told["rows"]]
        metrics["step"] |= {row["step"]: (row["step"], row["loss"], told["attempt"]) for row in rows}


def _forget(metrics: dict[str, dict[int, Any]], beyond: int) -> None:
    for name, known in metrics.items():
        metrics[name] = {key: row for key, row in known.items() if row[0] <= beyond}
