"""The service as real processes on this machine, to be broken: API, workers, broker, on any database."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil

from models import migrate
from models.database import Database
from models.settings import Settings
from tests.servers.guard import die_with_tests
from tests.servers.ports import free_port
from tests.servers.waiting import until


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it, whatever sessions they made for themselves."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Those that ended since they were listed are passed over, and so is whoever has their number now."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def command_line(process: psutil.Process) -> str:
    """Empty for a process that ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def kill_tree(pid: int) -> None:
    """SIGKILL for all of it, frozen first so that nothing in it can react to the death of another part."""
    processes = tree(pid)
    signal_all(processes, signal.SIGSTOP)
    signal_all(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


@dataclass
class Stack:
    """Everything of one installation; `with` it, and nothing is left afterwards."""

    home: Path
    database_url: str
    broker_url: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        (self.home / "data").mkdir(parents=True, exist_ok=True)
        self.settings = Settings(home=self.home, database_url=self.database_url, broker_url=self.broker_url)
        self.db = Database(self.database_url)
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> "Stack":
        migrate.upgrade(self.db)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        for process in [*self.workers, *filter(None, [self.api])]:
            if process.poll() is None:  # else its number may be another's by now
                kill_tree(process.pid)
                process.wait(10)
        self.db.close()

    # -- Processes -------------------------------------------------------------------------------

    def start_api(self, **environment: str) -> None:
        self.api = self.start("api", **environment)
        until(self._is_ready, seconds=30, what="the API to be ready")

    def start_worker(
        self, *prefix: str, arguments: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """One more; ``prefix`` is a command that runs it, and what it is told may differ from the others."""
        worker = self.start("worker", *prefix, arguments=arguments, **environment)
        self.workers.append(worker)
        return worker

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.home / f"{process.pid}.log").read_text(errors="replace")

    def start(
        self, module: str, *prefix: str, arguments: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """A process of the service that is the caller's to end."""
        path = self.home / "starting.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module, *arguments],
                env=self._env() | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_tests(),
            )
        path.rename(self.home / f"{process.pid}.log")
        return process

    def _env(self) -> dict[str, str]:
        return os.environ | {
            "PERDURE_HOME": str(self.home),
            "PERDURE_DATABASE_URL": self.database_url,
            "PERDURE_BROKER_URL": self.broker_url,
            "PERDURE_PORT": str(self.port),
            "PERDURE_DEVICE": "cpu",
            "PERDURE_THREADS": str(self.threads),
            "PERDURE_LEASE_SECONDS": "6",
            "PERDURE_HEARTBEAT_SECONDS": "2",
            "PERDURE_RECONCILE_SECONDS": "0.5",
            "PERDURE_DOWNLOADS": "false",
            **self.environment,
        }

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    # -- The contract, from outside --------------------------------------------------------------

    def submit(self, spec: dict[str, Any]) -> str:
        answer = self.http.post("/jobs", json=spec)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def rows(self, path: str, limit: int = 100, **params: Any) -> list[dict[str, Any]]:
        """All pages of a list."""
        return list(self._pages(path, {"limit": limit, **params}))

    def _pages(self, path: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        after: dict[str, Any] = {}
        while True:
            answer = self.http.get(path, params=params | after)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def await_status(self, job_id: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """Fails at once when the job ends otherwise."""
        ends = {"succeeded", "failed", "cancelled"} - set(statuses)

        def look() -> dict[str, Any] | None:
            try:
                job = self.job(job_id)
            except httpx.TransportError:
                return None  # the API is being killed, too
            if job["status"] in ends:
                events = [f"{e['type']}: {e['message']}" for e in self.rows(f"/jobs/{job_id}/events")]
                raise AssertionError(f"the job has {job['status']}: {job['error']}\n" + "\n".join(events))
            return job if job["status"] in statuses else None

        return until(look, seconds=seconds, what=f"{job_id} to be {' or '.join(statuses)}", every=0.1)
