"""What must hold after a soak, found from its history, the database and the store alone."""

import hashlib
import re
import statistics
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select

from models.database import Database
from models.job_state import EndCause, EventType, JobStatus
from models.tables import attempts, checkpoints, epoch_metrics, events, jobs, step_metrics
from tests.contract.invariants import check_checkpoints, check_ledger, check_metrics, check_trail
from tests.soak.history import Entry

#: What differs between two runs of one spec without being a result.
_NOT_A_RESULT = {"job_id", "attempt", "recorded_at", "images_per_second", "duration_seconds"}
_ATTEMPT = re.compile(r"\.attempt-(\d+)\.")
#: Ends of attempts whose trainer may have been alive and writing for a while after them.
_MAY_LEAVE_GARBAGE = {"worker_lost"}


@dataclass(frozen=True)
class Finding:
    """A rule that does not hold."""

    rule: str
    job_id: str
    detail: str


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


@dataclass
class Verdict:
    """Everything that was found, and what the jobs' goodput was."""

    findings: list[Finding] = field(default_factory=list)
    num_jobs: int = 0
    num_attempts: int = 0
    goodput: list[float] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        ranked = sorted(self.goodput)
        return {
            "findings": [vars(finding) for finding in self.findings],
            "jobs": self.num_jobs,
            "attempts": self.num_attempts,
            "goodput_mean": round(statistics.fmean(ranked), 4) if ranked else None,
            "goodput_p10": ranked[len(ranked) // 10] if ranked else None,
        }


def check(history: list[Entry], db: Database, storage: Path) -> Verdict:
    """Every rule for every job; those that ran before the faults are what the others must equal."""
    verdict = Verdict(findings=list(_submissions(history, db)))
    verdict.goodput = [e["goodput"] for e in history if e["kind"] == "finished" and e["goodput"] is not None]
    references = {e["spec"]: e["job_id"] for e in history if e["kind"] == "reference"}
    submitted = {e["job_id"]: e["spec"] for e in history if e["kind"] == "submitted"}
    damaged = frozenset(e["path"] for e in history if e["kind"] == "fault" and "path" in e)
    with db.reading() as tx:
        untouched = {spec: _case(tx, job_id, None, frozenset()) for spec, job_id in references.items()}
        for job_id, spec in submitted.items():
            if tx.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is None:
                continue  # told by the submissions' rule
            case = _case(tx, job_id, untouched.get(spec), damaged)
            verdict.num_jobs += 1
            verdict.num_attempts += len(case.attempts)
            verdict.findings += _invariants(tx, case)
            for name, rule in RULES.items():
                verdict.findings += [Finding(name, job_id, detail) for detail in rule(case, storage)]
    verdict.findings += _downloads(history, db)
    return verdict


# -- Rules of the whole ------------------------------------------------------------------------------


def _submissions(history: list[Entry], db: Database) -> Iterator[Finding]:
    """One accepted key is one job, and there are no others."""
    accepted: dict[str, str] = {}
    for entry in history:
        if entry["kind"] in {"submitted", "reference"}:
            before = accepted.setdefault(entry["key"], entry["job_id"])
            if before != entry["job_id"]:
                yield Finding("submissions", entry["job_id"], f"one key also gave {before}")
    with db.reading() as tx:
        stored = {row.id: row.idempotency_key for row in tx.execute(select(jobs))}
    for key, job_id in accepted.items():
        if stored.get(job_id) != key:
            yield Finding("submissions", job_id, "accepted, and not in the database under its key")
    tried = {entry["key"] for entry in history if entry["kind"] == "submitting"}
    for job_id, key in stored.items():
        if job_id not in accepted.values() and key not in tried:
            yield Finding("submissions", job_id, "in the database, and nobody submitted it")


def _downloads(history: list[Entry], db: Database) -> Iterator[Finding]:
    """The hash that was computed from a download is the one that the job says."""
    with db.reading() as tx:
        said = {row.id: row.weights_sha256 for row in tx.execute(select(jobs))}
    for entry in history:
        if entry["kind"] == "downloaded" and said[entry["job_id"]] != entry["weights"]:
            yield Finding("downloads", entry["job_id"], f"the download has {entry['weights']}")


def _invariants(tx: Connection, case: Case) -> Iterator[Finding]:
    for invariant in (check_trail, check_ledger, check_checkpoints, check_metrics):
        try:
            invariant(tx, case.job)
        except AssertionError as error:
            broken = traceback.extract_tb(error.__traceback__)[-1].line  # it says more than its message
            yield Finding(invariant.__name__, case.job.id, f"{broken}: {error}")


# -- Rules of one job --------------------------------------------------------------------------------


def _finished(case: Case, storage: Path) -> Iterator[str]:
    if case.job.status != JobStatus.SUCCEEDED:
        yield f"{case.job.status}: {case.job.error_message}"


def _every_row_once(case: Case, storage: Path) -> Iterator[str]:
    wanted = {"epoch": (case.job.epochs, case.epochs), "step": (case.job.steps, case.steps)}
    for name, (number, rows) in wanted.items():
        found = [getattr(row, name) for row in rows]
        if found != list(range(1, (number or 0) + 1)):
            yield f"{name}s {sorted(set(range(1, (number or 0) + 1)) ^ set(found)) or found}"


def _metrics_equal(case: Case, storage: Path) -> Iterator[str]:
    if case.reference is None:
        yield "its spec has no untouched run"
        return
    for name in ("epochs", "steps"):
        ours, theirs = _numbers(getattr(case, name)), _numbers(getattr(case.reference, name))
        different = [a for a, b in zip(ours, theirs, strict=False) if a != b]
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
    "every_row_once": _every_row_once,
    "metrics_equal": _metrics_equal,
    "weights_equal": _weights_equal,
    "exact": _exact,
    "no_zombie_writes": _no_zombie_writes,
    "no_bug_of_a_worker": _no_bug_of_a_worker,
    "committed_step_rises": _committed_step_rises,
    "recorded_files_exist": _recorded_files_exist,
    "no_garbage": _no_garbage,
}


# -- Details -----------------------------------------------------------------------------------------


def _case(tx: Connection, job_id: str, reference: Case | None, damaged: frozenset[str]) -> Case:
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


def _numbers(rows: list[Any]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row._mapping.items() if name not in _NOT_A_RESULT} for row in rows
    ]
