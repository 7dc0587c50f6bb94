"""A soak from its first quiet runs to the verdict."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from models.job_state import FINISHED, JobStatus
from models.tables import jobs, metadata
from tests.independent import weights_sha256_of
from tests.servers.waiting import until
from tests.soak.checker import Verdict, check
from tests.soak.client import Client
from tests.soak.faults import Chaos
from tests.soak.fleet import Fleet
from tests.soak.history import History, read_history
from tests.soak.specs import SPECS

START_SECONDS = 60.0
REFERENCE_SECONDS = 180.0
#: One download for so many seconds of faults, and one more, has its hash computed anew.
SECONDS_PER_DOWNLOAD = 120.0


@dataclass(frozen=True)
class Soak:
    """How long, how hard, and where."""

    home: Path
    seconds: float
    fault_every: float
    seed: int
    drain_seconds: float = 300.0

    @property
    def history_path(self) -> Path:
        return self.home / "history.jsonl"


def run(soak: Soak) -> dict[str, Any]:
    """The report; its ``findings`` are empty when every rule held."""
    began = time.monotonic()
    soak.home.mkdir(parents=True, exist_ok=True)
    history = History(soak.history_path)
    history.add("soak", seed=soak.seed, seconds=soak.seconds, fault_every=soak.fault_every)
    with Fleet(soak.home, history) as fleet:
        client = Client(fleet, soak.seed)
        chaos = Chaos(fleet, client, soak.seed)
        _run_references(fleet, client)
        quiet_seconds = time.monotonic() - began
        client.start()
        _rage(soak, fleet, chaos)
        client.stop()
        _drain(soak, fleet, client)
        _note_results(soak, fleet, client)
        history.close()
        verdict = check(read_history(soak.history_path), fleet.stack.db, fleet.home / "storage")
        if verdict.findings:
            _keep_evidence(soak, fleet, {finding.job_id for finding in verdict.findings})
    return _report(soak, verdict, chaos, quiet_seconds, time.monotonic() - began)


def _run_references(fleet: Fleet, client: Client) -> None:
    """Every spec once, by a service that nobody disturbs."""
    until(lambda: _all_ready(fleet, client), seconds=START_SECONDS, what="the API processes to be ready")
    ids = {name: client.submit(name, kind="reference") for name in SPECS}

    def done() -> bool:
        rows = fleet.rows(select(jobs).where(jobs.c.id.in_(ids.values())))
        assert all(row.status in {"queued", "running", "succeeded"} for row in rows), rows
        return all(row.status == "succeeded" for row in rows)

    until(done, seconds=REFERENCE_SECONDS, what="the untouched runs", every=0.2)
    assert {row.attempt for row in fleet.rows(select(jobs.c.attempt))} == {1}, "they were disturbed"


def _all_ready(fleet: Fleet, client: Client) -> bool:
    answers = [client.ask("GET", "/health/ready") for _ in range(2 * len(fleet.apis))]
    return all(answer is not None and answer.status_code == 200 for answer in answers)


def _rage(soak: Soak, fleet: Fleet, chaos: Chaos) -> None:
    ends_at = time.monotonic() + soak.seconds
    strikes_at = time.monotonic() + soak.fault_every
    while time.monotonic() < ends_at:
        chaos.tick()
        fleet.mend()
        if time.monotonic() >= strikes_at:
            chaos.strike()
            strikes_at += soak.fault_every * chaos.random.uniform(0.5, 1.5)
        time.sleep(0.05)
    chaos.end()
    fleet.mend()


def _drain(soak: Soak, fleet: Fleet, client: Client) -> None:
    """Faults are over: whatever is asked for goes on, and everything gets its time to finish."""
    stopped = select(jobs.c.id, jobs.c.status).where(jobs.c.status.in_(["paused", "cancelled"]))
    unfinished = select(func.count()).where(jobs.c.status.not_in(FINISHED))

    def over() -> bool:
        fleet.mend()
        waiting = fleet.rows(stopped)
        for row in waiting:
            again = "resume" if row.status == JobStatus.PAUSED else "retry"
            client.ask("POST", f"/jobs/{row.id}/{again}", json={})
        return not waiting and fleet.rows(unfinished) == [(0,)]

    try:
        until(over, seconds=soak.drain_seconds, what="all jobs to finish", every=0.3)
    except AssertionError as error:  # the checker says which, and in which state
        fleet.history.add("not_drained", error=str(error))


def _note_results(soak: Soak, fleet: Fleet, client: Client) -> None:
    """What users get: the body of each job, and a few downloads whose hash is computed anew."""
    ids = [row.id for row in fleet.rows(select(jobs.c.id).where(jobs.c.status == "succeeded"))]
    for job_id in ids:
        answer = client.ask("GET", f"/jobs/{job_id}")
        if answer is not None and answer.status_code == 200:
            fleet.history.add("finished", job_id=job_id, goodput=answer.json()["goodput"])
    for job_id in ids[-1 - int(soak.seconds / SECONDS_PER_DOWNLOAD) :]:
        answer = client.ask("GET", f"/jobs/{job_id}/model/content", timeout=60.0)
        assert answer is not None and answer.status_code == 200, answer and answer.text
        file = soak.home / f"{job_id}.pth"
        file.write_bytes(answer.content)
        fleet.history.add("downloaded", job_id=job_id, weights=weights_sha256_of(file))


def _keep_evidence(soak: Soak, fleet: Fleet, job_ids: set[str]) -> None:
    """Every row of the jobs in question: the database ends with the soak."""
    with (soak.home / "evidence.jsonl").open("w") as file:
        for table in metadata.sorted_tables:
            key = table.c.id if table is jobs else table.c.get("job_id")
            if key is None:
                continue
            for row in fleet.rows(select(table).where(key.in_(job_ids)).order_by(*table.primary_key)):
                file.write(json.dumps({"table": table.name, **row._mapping}, default=str) + "\n")


def _report(soak: Soak, verdict: Verdict, chaos: Chaos, quiet: float, total: float) -> dict[str, Any]:
    told = read_history(soak.history_path)
    return verdict.report() | {
        "seed": soak.seed,
        "history": str(soak.history_path),
        "faults": chaos.num_faults,
        "faults_by_name": dict(Counter(e["name"] for e in told if e["kind"] == "fault")),
        "seconds_before_the_faults": round(quiet, 1),
        "seconds_in_all": round(total, 1),
        "refused": [entry for entry in told if entry["kind"] == "refused"],
    }


def describe(report: dict[str, Any]) -> str:
    """For people: what was done, and each rule that did not hold."""
    lines = [json.dumps({key: value for key, value in report.items() if key != "findings"}, indent=2)]
    lines += [f"BROKEN {f['rule']} {f['job_id']}: {f['detail']}" for f in report["findings"]]
    verdict = "Every rule held." if not report["findings"] else f"{len(report['findings'])} findings."
    lines.append(f"{verdict} Seed {report['seed']}, history in {report['history']}")
    return "\n".join(lines)
