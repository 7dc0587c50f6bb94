"""A soak from its first quiet runs to the verdict."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from models.job_state import FINISHED, JobStatus
from models.tables import jobs, metadata
from tests.independent import weights_sha256_of
from tests.servers.waiting import until
from tests.soak.audit import zombie_writes
from tests.soak.checker import check
from tests.soak.client import Client
from tests.soak.faults import Chaos, choose
from tests.soak.fleet import Fleet
from tests.soak.history import History, read_history
from tests.soak.report import Report
from tests.soak.schedule import Schedule
from tests.soak.specs import LOADS
from tests.soak.timeline import timeline

START_SECONDS = 180.0
REFERENCE_SECONDS = 3600.0
#: For answers after the faults.
PATIENCE_SECONDS = 180.0
#: One download for so many seconds of faults, and one more, has its hash computed anew.
SECONDS_PER_DOWNLOAD = 120.0
ANSWER_SECONDS = 300.0


@dataclass(frozen=True)
class Soak:
    """How long, how hard, and where."""

    home: Path
    seconds: float
    every_seconds: float  #: between two faults, on average
    seed: int
    faults: tuple[str, ...] = ("all",)
    load: str = "short"
    drain_seconds: float = 600.0
    ended_early: threading.Event = field(default_factory=threading.Event)  #: set it, and no more faults come

    @property
    def history_path(self) -> Path:
        return self.home / "history.jsonl"


def run(soak: Soak) -> Report:
    """Its ``findings`` are empty when every rule held."""
    began = time.monotonic()
    soak.home.mkdir(parents=True, exist_ok=True)
    history = History(soak.history_path)
    history.add(
        "soak", seed=soak.seed, seconds=soak.seconds, every_seconds=soak.every_seconds, faults=soak.faults,
        load=soak.load, load_average=os.getloadavg(), cores=os.cpu_count(),
    )  # fmt: skip
    with Fleet(soak.home, history) as fleet, _evidence_if_it_breaks(soak, fleet):
        client = Client(fleet, LOADS[soak.load], soak.seed)
        chaos = Chaos(fleet, client)
        _run_references(soak, fleet, client)
        client.start()
        history.add("faults_begin")
        _rage(soak, fleet, chaos)
        history.add("faults_end", early=soak.ended_early.is_set(), load_average=os.getloadavg())
        client.stop()
        _drain(soak, fleet, client)
        _note_results(soak, fleet, client)
        history.close()
        told = read_history(soak.history_path)
        verdict = check(told, fleet.stack.db, fleet.home / "storage")
        broken = sorted({finding.job_id for finding in verdict.findings})
        if broken:
            _keep_evidence(soak, fleet, broken)
        timelines = {job_id: timeline(told, fleet.stack.db, job_id) for job_id in broken}
    return Report(soak.home, told, verdict, timelines, time.monotonic() - began)


def _run_references(soak: Soak, fleet: Fleet, client: Client) -> None:
    """Every spec once, by a service that nobody disturbs."""
    until(lambda: _all_ready(fleet, client), seconds=START_SECONDS, what="the API processes to be ready")
    ids = {name: client.submit(name, kind="reference") for name in LOADS[soak.load].specs}

    def done() -> bool:
        if soak.ended_early.is_set():
            raise KeyboardInterrupt  # there is nothing to judge yet
        found = {row.id: row for row in fleet.rows(select(jobs).where(jobs.c.id.in_(ids.values())))}
        assert all(row.status in {"queued", "running", "succeeded"} for row in found.values()), found
        for name, job_id in ids.items():
            if (
                job_id in found and found[job_id].attempt > 1
            ):  # a machine that is busy enough disturbs by itself
                ids[name] = client.submit(name, kind="reference")
        return all(job_id in found and found[job_id].status == "succeeded" for job_id in ids.values())

    until(done, seconds=REFERENCE_SECONDS, what="the untouched runs", every=0.2)


def _all_ready(fleet: Fleet, client: Client) -> bool:
    answers = [client.ask("GET", "/health/ready") for _ in range(2 * len(fleet.apis))]
    return all(answer is not None and answer.status_code == 200 for answer in answers)


def _rage(soak: Soak, fleet: Fleet, chaos: Chaos) -> None:
    schedule = Schedule(soak.seed, choose(soak.faults), soak.every_seconds)
    ends_at = time.monotonic() + soak.seconds
    strikes_at = time.monotonic() + soak.every_seconds
    while time.monotonic() < ends_at and not soak.ended_early.is_set():
        chaos.tick()
        fleet.mend()
        if time.monotonic() >= strikes_at:
            chaos.strike(schedule.next())
            strikes_at += schedule.pause_seconds()
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
    writes = fleet.audit.writes()
    for write in zombie_writes(writes, fleet.accounts):
        fleet.history.add("zombie_write", **write)
    fleet.history.add("audited", writes=len(writes))
    done = fleet.rows(select(jobs).where(jobs.c.status == "succeeded").order_by(jobs.c.id))
    for row in done:
        fleet.history.add(
            "finished", job_id=row.id, goodput=_answer(client, f"/jobs/{row.id}").json()["goodput"],
            seconds=(row.finished_at - row.first_claimed_at).total_seconds() - row.paused_seconds,
            finished_unix=row.finished_at.timestamp(),
        )  # fmt: skip
    for row in done[-1 - int(soak.seconds / SECONDS_PER_DOWNLOAD) :]:
        file = soak.home / f"{row.id}.pth"
        file.write_bytes(_answer(client, f"/jobs/{row.id}/checkpoints/last/content").content)
        fleet.history.add("downloaded", job_id=row.id, weights=weights_sha256_of(file))


def _answer(client: Client, path: str) -> Any:
    """Whoever is told to come again (503: a download is being put together) does so."""

    def look() -> Any:
        answer = client.ask("GET", path, timeout=PATIENCE_SECONDS)
        assert answer is None or answer.status_code in {200, 503}, answer.text
        return answer if answer is not None and answer.status_code == 200 else None

    return until(look, seconds=ANSWER_SECONDS, what=f"an answer to {path}", every=0.3)


@contextlib.contextmanager
def _evidence_if_it_breaks(soak: Soak, fleet: Fleet) -> Iterator[None]:
    """Also of a soak that does not get as far as its verdict: the database ends with it."""
    try:
        yield
    except BaseException:
        _keep_evidence(soak, fleet, [row.id for row in fleet.rows(select(jobs.c.id))])
        raise


def _keep_evidence(soak: Soak, fleet: Fleet, job_ids: list[str]) -> None:
    """Every row of the jobs in question."""
    with (soak.home / "evidence.jsonl").open("w") as file:
        for table in metadata.sorted_tables:
            key = table.c.id if table is jobs else table.c.get("job_id")
            if key is None:
                continue
            for row in fleet.rows(select(table).where(key.in_(job_ids)).order_by(*table.primary_key)):
                file.write(json.dumps({"table": table.name, **row._mapping}, default=str) + "\n")
