"""Clearing away the files of deleted jobs: with the request, and later what a crash or a full store left."""

import random
import threading

import structlog

from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable, StorageFailed
from models.outages import Outages
from models.storage import Storage, remove_job_files

_log = structlog.get_logger()

#: Garbage costs space, never a job: a look now and then will do.
EVERY_SECONDS = 600.0
FIRST_SECONDS = 10.0


class Clearing:
    """A thread in every API process. Each look is idempotent, so that several may take the same one."""

    def __init__(self, db: Database, storage: Storage) -> None:
        self._db, self._storage = db, storage
        self._outages = Outages("clearing")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clearing", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End after the job under way."""
        self._stopping.set()
        self._thread.join(timeout)

    def clear(self, job_id: str) -> None:
        """Delete what a deleted job left in the store; what cannot be deleted now is left to a later look."""
        try:
            number = remove_job_files(self._storage, job_id)
            job_store.cleared(self._db, job_id)
        except (OSError, StorageFailed, DatabaseUnavailable) as error:
            _log.warning("clearing.later", job_id=job_id, error=str(error.__cause__ or error))
        else:
            _log.info("cleared", job_id=job_id, files=number)

    def tick(self) -> None:
        """One look at all that may be left. Never raises for a database that is away."""
        try:
            left = job_store.jobs_to_clear(self._db)
        except DatabaseUnavailable as error:
            self._outages.away(error)
            return
        self._outages.over()
        for job_id in left:
            if self._stopping.is_set():
                return
            self.clear(job_id)

    def _run(self) -> None:
        seconds = FIRST_SECONDS
        while not self._stopping.wait(seconds * random.uniform(0.75, 1.25)):
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - a surprise with one store must not end all later looks
                _log.exception("clearing.tick_failed")
            seconds = EVERY_SECONDS
