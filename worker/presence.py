"""The threads of a worker beside Celery's: it shows itself to the fleet and looks for work without a bell."""

import threading
from typing import Protocol

import structlog

from models import job_store
from models.database import Database
from models.dataset_state import LIGHT
from models.errors import DatabaseUnavailable
from models.host import Owner
from models.outages import Outages
from models.settings import Settings
from models.version import VERSION
from worker.messages import Slot
from worker.slot import NoDevice

_log = structlog.get_logger()


class Works(Protocol):
    """What a worker does when it hears of work: a supervisor trains, an examiner checks datasets."""

    job_id: str | None
    may_hold_unheard: bool

    @property
    def is_idle(self) -> bool: ...
    def work_until_idle(self) -> None: ...
    def stand_aside(self, why: str) -> None: ...
    def stand_by(self) -> bool: ...
    def stop(self) -> None: ...
    def join(self, timeout: float) -> bool: ...


class Presence:
    """Registers the worker, beats for it, and works on what its reconciler found waiting."""

    def __init__(
        self, db: Database, settings: Settings, owner: Owner, slot: Slot | NoDevice, supervisor: Works
    ) -> None:
        self._db = db
        self._settings = settings
        self._owner = owner
        self._slot = slot
        self._supervisor = supervisor
        #: What it is rung for.
        self.classes = [slot.device] if slot.device == LIGHT else ["any", slot.device]
        self._stopping = threading.Event()
        self._nudged = threading.Event()

    def start(self) -> None:
        """Begin to beat, and look for work once."""
        for work in (self._beat, self._look_for_work):
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True).start()
        self._nudged.set()

    def nudge(self, device_class: str) -> None:
        """Jobs of this class wait. A worker that is deaf to the broker hears of them here all the same."""
        if device_class in self.classes and self._supervisor.is_idle:
            self._nudged.set()

    def stop(self) -> None:
        """Say goodbye, if the database hears it."""
        self._stopping.set()
        self._nudged.set()
        try:
            job_store.worker_stopped(self._db, self._owner.worker_id)
        except DatabaseUnavailable as error:
            _log.warning("worker.goodbye_unheard", error=error.reason)

    def _beat(self) -> None:
        registered, outages = False, Outages("worker")
        while not self._stopping.is_set():
            try:
                if not registered:
                    job_store.register_worker(
                        self._db,
                        self._owner,
                        device=self._slot.device,
                        slot=self._slot.key,
                        threads=self._slot.threads,
                        version=VERSION,
                    )
                    registered = True
                else:
                    status = job_store.worker_beat(self._db, self._owner.worker_id, self._supervisor.job_id)
                    registered = status is not None
                    self._hear(status)
            except DatabaseUnavailable as error:
                outages.away(error)
            except Exception:  # noqa: BLE001 - as below
                _log.exception("worker.beat_failed")
            else:
                outages.over()
            if self._supervisor.may_hold_unheard and self._supervisor.is_idle:
                self._nudged.set()  # nobody rings for a job that is running by its row
            self._stopping.wait(self._settings.heartbeat_seconds)

    def _hear(self, status: str | None) -> None:
        """What was asked of this worker, by people or by itself."""
        if status in {"draining", "quarantined"}:
            self._supervisor.stand_aside(status)
        elif status == "online" and self._supervisor.stand_by():
            self._nudged.set()

    def _look_for_work(self) -> None:
        outages = Outages("claim")
        while self._nudged.wait() and not self._stopping.is_set():
            self._nudged.clear()
            try:
                self._supervisor.work_until_idle()
                outages.over()
            except DatabaseUnavailable as error:
                outages.away(error)
            except Exception:  # noqa: BLE001 - this thread must outlive any surprise, or a deaf worker starves
                _log.exception("claim.failed")
