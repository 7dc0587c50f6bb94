"""What must hold for each job of a soak, found from its rows and files alone."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select

from models.job_state import EndCause, EventType, JobStatus
from models.tables import attempts, checkpoints, epoch_metrics, events, jobs, step_metrics

#: What differs between two runs of one spec without being a result.
_NOT_A_RESULT = {"job_id", "attempt", "recorded_at", "images_per_second", "duration_seconds"}
_ATTEMPT = re.compile(r"\.attempt-(\d+)\.")
#: Ends of attempts whose trainer may have been alive and writing for a while after them.
_MAY_LEAVE_GARBAGE = {"worker_lost"}


@dataclass
class Case:
    """A job with all that belongs to it."""

    job: Any
    reference: "Case | None"
    attempts: list[Any]
    epochs: list[Any]
    steps: list[Any]
    checkpoints: list[Any]
    events: list[Any]
    damaged: frozenset[str] = frozenset()  #: paths of checkpoints that the soak itself broke

    @property
    def ledger(self) -> dict[int, Any]:
        return {line.attempt: line for line in self.attempts}

    @property
    def lost_epochs(self) -> list[int]:
        return _missing(self.job.epochs, [row.epoch for row in self.epochs])

    @property
    def repeated_metrics(self) -> list[str]:
        numbers = [f"epoch {row.epoch}" for row in self.epochs] + [f"step {row.step}" for row in self.steps]
        return [number for number, times in Counter(numbers).items() if times > 1]


def case_of(tx: Connection, job_id: str, reference: Case | None, damaged: frozenset[str]) -> Case:
    def rows(table: Table, *order: str) -> list[Any]:
        columns = [table.c[name] for name in order]
        return list(tx.execute(select(table).where(table.c.job_id == job_id).order_by(*columns)))

    return Case(
        job=tx.execute(select(jobs).where(jobs.c.id == job_id)).one(),
        reference=reference,
        attempts=rows(attempts, "attempt"),
        epochs=rows(epoch_metrics, "epoch"),
        steps=rows(step_metrics, "step"),
        checkpoints=rows(checkpoints, "step", "id"),
        events=rows(events, "sequence"),
        damaged=damaged,
    )


def _finished(case: Case, storage: Path) -> Iterator[str]:
    if case.job.status != JobStatus.SUCCEEDED:
        yield f"{case.job.status}: {case.job.error_message}"


def _no_epoch_lost(case: Case, storage: Path) -> Iterator[str]:
    if case.lost_epochs:
        yield f"no row of epochs {case.lost_epochs}"


def _no_step_lost(case: Case, storage: Path) -> Iterator[str]:
    if lost := _missing(case.job.steps, [row.step for row in case.steps]):
        yield f"no row of steps {lost}"


def _no_metric_twice(case: Case, storage: Path) -> Iterator[str]:
    """The tables' keys forbid it; a migration that dropped one would be noticed here."""
    if case.repeated_metrics:
        yield f"several rows of {', '.join(case.repeated_metrics)}"


def _metrics_equal(case: Case, storage: Path) -> Iterator[str]:
    if case.reference is None:
        yield "its spec has no untouched run"
        return
    for name in ("epochs", "steps"):
        ours, theirs = _numbers(getattr(case, name)), _numbers(getattr(case.reference, name))
        different = [a for a, b in zip(ours, theirs, strict=False) if a != b]
        if len(ours) != len(theirs):
            yield f"{len(ours)} rows of {name} instead of {len(theirs)}"
        if different:
            yield f"{len(different)} {name} differ, the first: {different[0]}"


def _weights_equal(case: Case, storage: Path) -> Iterator[str]:
    if case.reference is not None and case.job.weights_sha256 != case.reference.job.weights_sha256:
        yield f"{case.job.weights_sha256} instead of {case.reference.job.weights_sha256}"


def _exact(case: Case, storage: Path) -> Iterator[str]:
    if not case.job.exact:
        yield f"inexact: {case.job.inexact_reasons}"
    yield from (e.message for e in case.events if e.type == EventType.DETERMINISM_MISMATCH)


def _no_zombie_writes(case: Case, storage: Path) -> Iterator[str]:
    """Whatever an attempt recorded, it recorded between its beginning and its end in the ledger."""
    ledger = case.ledger
    stamped = [
        *((f"epoch {row.epoch}", row.attempt, row.recorded_at) for row in case.epochs),
        *((f"step {row.step}", row.attempt, row.recorded_at) for row in case.steps),
        *((f"checkpoint {row.id}", row.attempt, row.created_at) for row in case.checkpoints),
    ]
    for what, attempt, at in stamped:
        line = ledger.get(attempt)
        if line is None:
            yield f"{what} is of attempt {attempt}, which never was"
        elif at < line.started_at or (line.ended_at is not None and at > line.ended_at):
            yield f"{what} of attempt {attempt} was recorded at {at}, outside of it"
    for event in case.events:
        after = ledger.get(event.attempt + 1)
        if after is not None and event.created_at > after.started_at:
            yield f"{event.type} of attempt {event.attempt} was recorded after the next began"


def _no_bug_of_a_worker(case: Case, storage: Path) -> Iterator[str]:
    """A worker lives through its own bugs, so that nothing else would tell of them here."""
    yield from (line.end_detail for line in case.attempts if line.end_cause == EndCause.WORKER_ERROR)


def _committed_step_rises(case: Case, storage: Path) -> Iterator[str]:
    """It falls by a quarantine alone.

    It may be committed twice: by a worker that was stopped in the validation after it, and with that epoch.
    """
    committed = 0
    for event in case.events:
        if event.type == EventType.CHECKPOINT_QUARANTINED:
            committed = event.data["committed_step"]
        elif event.type == EventType.CHECKPOINT_COMMITTED:
            if event.data["step"] < committed:
                yield f"step {event.data['step']} was committed after step {committed}"
            committed = event.data["step"]


def _recorded_files_exist(case: Case, storage: Path) -> Iterator[str]:
    for row in case.checkpoints:
        if row.status != "committed" or row.path in case.damaged:
            continue
        wanted = {row.path: row.sha256}
        if row.frozen_path is not None:
            wanted[row.frozen_path] = row.frozen_sha256
        for path, sha256 in wanted.items():
            file = storage / path
            if not file.exists():
                yield f"{path} is recorded and missing"
            elif hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
                yield f"{path} is not the file that was recorded"


def _no_garbage(case: Case, storage: Path) -> Iterator[str]:
    """Unrecorded files are at most those of the newest attempt, or of one that wrote on unheard."""
    recorded = {row.path for row in case.checkpoints if row.status != "pruned"}
    recorded |= {row.frozen_path for row in case.checkpoints if row.frozen_path and row.status != "pruned"}
    for folder in ("checkpoints", "frozen"):
        for file in sorted((storage / "jobs" / case.job.id / folder).glob("*")):
            path, attempt = file.relative_to(storage).as_posix(), _ATTEMPT.search(file.name)
            if path in recorded or attempt is None or int(attempt[1]) == case.job.attempt:
                continue
            line = case.ledger.get(int(attempt[1]))
            if line is None or line.end_cause not in _MAY_LEAVE_GARBAGE:
                yield f"{path} was left behind"


RULES: dict[str, Callable[[Case, Path], Iterator[str]]] = {
    "finished": _finished,
    "no_epoch_lost": _no_epoch_lost,
    "no_step_lost": _no_step_lost,
    "no_metric_twice": _no_metric_twice,
    "metrics_equal": _metrics_equal,
    "weights_equal": _weights_equal,
    "exact": _exact,
    "no_zombie_writes": _no_zombie_writes,
    "no_bug_of_a_worker": _no_bug_of_a_worker,
    "committed_step_rises": _committed_step_rises,
    "recorded_files_exist": _recorded_files_exist,
    "no_garbage": _no_garbage,
}


# -- Details -------------------------------------------------------------------------------------------


def _missing(wanted: int | None, found: list[int]) -> list[int]:
    return sorted(set(range(1, (wanted or 0) + 1)) - set(found))


def _numbers(rows: list[Any]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row._mapping.items() if name not in _NOT_A_RESULT} for row in rows
    ]
