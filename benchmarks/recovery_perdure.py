"""The benchmark's side of Perdure: one database, one or two workers, jobs made without an API."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import end, eventually, family, kill, start
from benchmarks.step_log import READY, StepLog
from models import job_store
from models.database import Database
from models.job_spec import JobSpec
from models.migrate import upgrade
from models.settings import Settings

#: A worker imports torch before it takes part; on a busy machine that may take long.
READY_SECONDS = 120.0


class Perdure:
    """``with`` it, and nothing is left running. The broker is away: workers look for jobs themselves."""

    def __init__(self, home: Path, threads: int | None) -> None:
        home.mkdir(parents=True)
        self.home, self.threads = home, threads
        self.log = StepLog(home / "moments.log")
        self.settings = Settings(
            home=home,
            database_url=f"sqlite:///{home / 'perdure.db'}",
            broker_url=f"redis+socket://{home / 'no-broker.sock'}",
            storage_url=(home / "storage").as_uri(),
            data_root=home.parent / "data",
        )
        self.db = Database(self.settings.database_url)
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Perdure":
        upgrade(self.db)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            end(worker)
        self.db.close()

    # -- Workers ---------------------------------------------------------------------------------

    def start_worker(self) -> subprocess.Popen[bytes]:
        """With every setting at its default but for where things are. Not awaited."""
        settings = self.settings
        environment = {
            "PERDURE_HOME": str(self.home),
            "PERDURE_DATABASE_URL": settings.database_url,
            "PERDURE_BROKER_URL": settings.broker_url,
            "PERDURE_STORAGE_URL": settings.storage_url,
            "PERDURE_DATA_ROOT": str(settings.data_folder),
            "PERDURE_DOWNLOADS": "false",
            "PERDURE_DEVICE": "cpu",
            "PERDURE_THREADS": "" if self.threads is None else str(self.threads),
        }
        module = ["-m", "benchmarks.noting_worker", str(self.log.path)]
        worker = start(module, self.home / "worker.log", environment)
        self.workers.append(worker)
        return worker

    def await_warm(self, worker: subprocess.Popen[bytes]) -> None:
        """Until it could start a trainer at once. Raises NotInTime, RuntimeError for one that ended."""

        def is_ready() -> bool | None:
            if worker.poll() is not None:
                raise RuntimeError(f"a worker ended: {(self.home / 'worker.log').read_text()}")
            return (READY, worker.pid) in {(m.event, m.number) for m in self.log.read()} or None

        eventually(is_ready, seconds=READY_SECONDS, what="a worker to be warm")

    def owner_of(self, job_id: str) -> subprocess.Popen[bytes]:
        """The worker that has the job."""
        pid = self.job(job_id).owner_pid
        return next(worker for worker in self.workers if worker.pid == pid)

    # -- Jobs ------------------------------------------------------------------------------------

    def submit(self, spec: dict[str, Any]) -> str:
        return str(job_store.create_job(self.db, JobSpec.model_validate(spec)).job.id)

    def job(self, job_id: str) -> Any:
        return job_store.get_job(self.db, job_id)

    def await_success(self, job_id: str, seconds: float) -> str:
        """The hash of the final weights. Raises NotInTime, RuntimeError for a job that ended otherwise."""

        def look() -> str | None:
            job = self.job(job_id)
            if job.status in {"failed", "cancelled", "paused"}:
                raise RuntimeError(f"the job has {job.status}: {job.error_code}: {job.error_message}")
            return str(job.weights_sha256) if job.status == "succeeded" else None

        return eventually(look, seconds=seconds, what=f"{job_id} to succeed", every=0.05)

    def forget(self, job_id: str) -> None:
        """Remove the files of a finished job: ten of them would fill a small disk."""
        shutil.rmtree(self.home / "storage" / "jobs" / job_id)

    # -- Faults ----------------------------------------------------------------------------------

    def kill_trainer(self, job_id: str) -> float:
        """The process that trains, and nothing else."""
        return kill([psutil.Process(self.job(job_id).trainer_pid)])

    def kill_worker(self, job_id: str) -> float:
        """Supervisor, zygote and trainer of the worker that has the job."""
        worker = self.owner_of(job_id)
        self.workers.remove(worker)
        killed_at = kill(family(worker.pid))
        worker.wait(10)
        return killed_at
