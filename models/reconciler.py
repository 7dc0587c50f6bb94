"""The reconciler: in every worker and API process, it takes back what was lost and rings for what waits.

Each tick is idempotent, and any process may miss any number of them, so there is no beat process to
lose. After the database was away, this process takes nothing back for one lease, so that workers that
were cut off with it can renew first.
"""

import random
import threading
from collections.abc import Callable

import structlog

from models import dataset_store, job_store
from models.database import Database
from models.errors import DatabaseUnavailable
from models.host import boot_time_clock
from models.outages import Outages
from models.settings import Settings

_log = structlog.get_logger()


class Reconciler:
    """A thread that ticks every ``reconcile_seconds``, give or take a quarter."""

    def __init__(self, db: Database, settings: Settings, on_claimable: Callable[[str], object]) -> None:
        """``on_claimable`` is called with each device class that jobs wait for."""
        self._db = db
        self._settings = settings
        self._on_claimable = on_claimable
        self._outages = Outages("reconciler")
        self._patient_until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End after the tick under way."""
        self._stopping.set()
        self._thread.join(timeout)

    def tick(self) -> None:
        """One look: expire, then ring. Never raises for a database that is away."""
        lease = self._settings.lease_seconds
        try:
            if boot_time_clock() >= self._patient_until:
                for job_id in job_store.expire_lost_leases(self._db, lease):
                    _log.info("lease.expired", job_id=job_id)
                for dataset_id in dataset_store.release_dead_checks(self._db):
                    _log.info("check.released", dataset_id=dataset_id)
            for device_class in job_store.claimable_classes(self._db):
                self._on_claimable(device_class)
        except DatabaseUnavailable as error:
            self._patient_until = boot_time_clock() + lease
            self._outages.away(error)
        else:
            self._outages.over()

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.reconcile_seconds * random.uniform(0.75, 1.25)):
            before = boot_time_clock()
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - the thread must outlive any surprise: leases depend on it
                _log.exception("reconciler.tick_failed")
            # A process that was frozen for long sees a world of expired leases that may be its own
            # fault (all processes of a suspended machine thaw together): let everybody renew first.
            if boot_time_clock() - before > self._settings.lease_seconds / 2:
                self._patient_until = boot_time_clock() + self._settings.lease_seconds
