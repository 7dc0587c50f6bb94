"""What must hold after a soak, found from its history, the database and the store alone."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from models.database import Database
from models.job_state import FAILURES, JobStatus
from models.tables import jobs
from tests.contract.invariants import check_checkpoints, check_ledger, check_metrics, check_trail
from tests.soak.history import Entry
from tests.soak.rules import RULES, Case, case_of


@dataclass(frozen=True)
class Finding:
    """A rule that does not hold."""

    rule: str
    job_id: str
    detail: str


@dataclass
class Verdict:
    """Everything that was found, and what it was found in."""

    findings: list[Finding] = field(default_factory=list)
    num_jobs: int = 0
    num_finished: int = 0
    num_identical: int = 0  #: of the finished: weights and metrics as if nothing had happened, bit for bit
    num_attempts: int = 0
    num_recoveries: int = 0  #: attempts that ended in a way that nobody asked for
    num_lost_epochs: int = 0
    num_duplicate_metrics: int = 0


def check(history: list[Entry], db: Database, storage: Path) -> Verdict:
    """Every rule for every job; those that ran before the faults are what the others must equal."""
    verdict = Verdict(findings=list(_submissions(history, db)))
    references = {e["spec"]: e["job_id"] for e in history if e["kind"] == "reference"}
    submitted = {e["job_id"]: e["spec"] for e in history if e["kind"] == "submitted"}
    damaged = frozenset(e["path"] for e in history if e["kind"] == "fault" and "path" in e)
    with db.reading() as tx:
        untouched = {spec: case_of(tx, job_id, None, frozenset()) for spec, job_id in references.items()}
        for job_id, spec in submitted.items():
            if tx.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is None:
                continue  # told by the submissions' rule
            case = case_of(tx, job_id, untouched.get(spec), damaged)
            found = [*_invariants(tx, case), *_broken_rules(case, storage)]
            _count(verdict, case, {finding.rule for finding in found})
            verdict.findings += found
    verdict.findings += [*_zombie_writes(history), *_downloads(history, db)]
    return verdict


def _count(verdict: Verdict, case: Case, broken: set[str]) -> None:
    verdict.num_jobs += 1
    verdict.num_attempts += len(case.attempts)
    verdict.num_recoveries += sum(line.end_cause in FAILURES for line in case.attempts)
    verdict.num_duplicate_metrics += len(case.repeated_metrics)
    if case.job.status == JobStatus.SUCCEEDED:
        verdict.num_finished += 1
        verdict.num_lost_epochs += len(case.lost_epochs)
        verdict.num_identical += not broken & {"weights_equal", "metrics_equal", "exact"}


# -- Rules of one job ----------------------------------------------------------------------------------


def _invariants(tx: Connection, case: Case) -> Iterator[Finding]:
    for invariant in (check_trail, check_ledger, check_checkpoints, check_metrics):
        try:
            invariant(tx, case.job)
        except AssertionError as error:
            broken = traceback.extract_tb(error.__traceback__)[-1].line  # it says more than its message
            yield Finding(invariant.__name__, case.job.id, f"{broken}: {error}")


def _broken_rules(case: Case, storage: Path) -> Iterator[Finding]:
    for name, rule in RULES.items():
        for detail in rule(case, storage):
            yield Finding(name, case.job.id, detail)


# -- Rules of the whole --------------------------------------------------------------------------------


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


def _zombie_writes(history: list[Entry]) -> Iterator[Finding]:
    """What the database's own audit caught, also where a later attempt has written over it since."""
    for entry in history:
        if entry["kind"] == "zombie_write":
            yield Finding(
                "no_zombie_writes",
                entry["job_id"],
                f"{entry['writer']} wrote {entry['what']} of attempt {entry['attempt']} at"
                f" {entry['written_at']}, when the job was {entry['status']} under attempt"
                f" {entry['holder']} of process {entry['holder_pid']}",
            )


def _downloads(history: list[Entry], db: Database) -> Iterator[Finding]:
    """The hash that was computed from a download is the one that the job says."""
    with db.reading() as tx:
        said = {row.id: row.weights_sha256 for row in tx.execute(select(jobs))}
    for entry in history:
        if entry["kind"] == "downloaded" and said[entry["job_id"]] != entry["weights"]:
            yield Finding("downloads", entry["job_id"], f"the download has {entry['weights']}")
