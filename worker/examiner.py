"""A light worker's share: claim a dataset, have it checked by a process, record what was found.

It has no device and no torch, and never trains; so no busy device holds up the check of an upload. Killed in
the middle it loses nothing: the lease runs out, the next light worker begins the check anew, and whatever
the one before left behind is told by the attempt in its name.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from models import builtin_datasets, dataset_store, uploads
from models.database import Database
from models.dataset_state import Source
from models.dataset_store import Check
from models.errors import DatabaseUnavailable, LeaseLost, StorageFailed
from models.host import Owner
from models.settings import Settings
from models.storage import storage_from_url
from worker.examination import COMMAND, Examination

_log = structlog.get_logger()

THREADS = 2
#: Without a word for so long, a check is held to hang.
STALL_SECONDS = 180.0
LISTEN_SECONDS = 0.5


class Examiner:
    """What :class:`worker.presence.Presence` and the doorbell's task need of a light worker."""

    def __init__(
        self, db: Database, settings: Settings, owner: Owner, command: Sequence[str] = COMMAND
    ) -> None:
        """``command`` starts what checks a dataset. Raises SpecInvalid for a store that cannot be used."""
        self._db, self._settings, self._owner, self._command = db, settings, owner, command
        self._storage = storage_from_url(settings.storage_url)
        self._one_at_a_time = threading.Lock()
        self._leaving = threading.Event()
        self._aside = threading.Event()
        self._swept_at: float | None = None
        self.job_id: str | None = None  #: the dataset that is being checked
        self.may_hold_unheard = False  #: a claim whose reply was lost expires by itself

    def work_until_idle(self) -> None:
        """Check one dataset after the other until none waits. Raises DatabaseUnavailable."""
        with self._one_at_a_time:
            self._sweep()
            while not self._is_leaving:
                check = dataset_store.claim_check(self._db, self._owner, self._settings.lease_seconds)
                if check is None:
                    return
                self.job_id = check.dataset.id
                log = _log.bind(dataset_id=check.dataset.id, attempt=check.attempt)
                try:
                    self._see_through(check)
                except LeaseLost:
                    # Another has it, or it was deleted: what was unpacked here is garbage.
                    log.warning("check.lost")
                    if check.dataset.source == Source.UPLOAD:
                        shutil.rmtree(self._settings.uploads_folder / self._folder(check), ignore_errors=True)
                except DatabaseUnavailable:
                    log.exception("check.database_away")  # the lease expires by itself
                finally:
                    self.job_id = None

    @property
    def is_idle(self) -> bool:
        return not self._one_at_a_time.locked()

    def stand_aside(self, why: str) -> None:
        """Drained: the check under way goes back, and no other is claimed until ``stand_by``."""
        self._aside.set()

    def stand_by(self) -> bool:
        """Claim again; whether that is news."""
        was_aside = self._aside.is_set()
        self._aside.clear()
        return was_aside

    def stop(self) -> None:
        """SIGTERM: the check under way goes back to the others."""
        self._leaving.set()

    def join(self, timeout: float) -> bool:
        """Whether it went back in time."""
        return self._one_at_a_time.acquire(timeout=timeout)

    @property
    def _is_leaving(self) -> bool:
        return self._leaving.is_set() or self._aside.is_set()

    # -- The story -------------------------------------------------------------------------------

    def _see_through(self, check: Check) -> None:
        """From the claim to what is recorded. Raises LeaseLost, DatabaseUnavailable."""
        _log.info("check.started", dataset_id=check.dataset.id, attempt=check.attempt)
        examination = Examination(self._request(check), self._command)
        try:
            trouble = self._follow(check, examination)
        finally:
            code = examination.close()
        if self._is_leaving and examination.answer is None:
            dataset_store.release_check(self._db, check)
            return
        if examination.answer is None:
            trouble = trouble or f"The process that checks it ended with status {code}."
        elif examination.answer.get("code") == StorageFailed.code:
            trouble = str(examination.answer["message"])
        if trouble is not None:
            _log.warning("check.failed", dataset_id=check.dataset.id, trouble=trouble)
            dataset_store.abandon_check(self._db, check, trouble)
            return
        assert examination.answer is not None  # noqa: S101
        self._record(check, examination.answer)

    def _follow(self, check: Check, examination: Examination) -> str | None:
        """Until its end, renewing the lease while it makes progress; why it was ended, if it was."""
        now = time.monotonic()
        heard_at, renewed_at = now, now
        limit = self._settings.stall_seconds or STALL_SECONDS
        while not examination.is_over and not self._is_leaving:
            if examination.listen(LISTEN_SECONDS):
                heard_at = time.monotonic()
            now = time.monotonic()
            if now - heard_at > limit:
                return f"The check made no progress for {now - heard_at:.0f} s."
            if now - renewed_at >= self._settings.heartbeat_seconds:
                renewed_at = now
                with contextlib.suppress(DatabaseUnavailable):  # again at the next heartbeat
                    dataset_store.renew_check(
                        self._db, check, self._settings.lease_seconds, examination.done, examination.total
                    )
        return None

    def _record(self, check: Check, answer: dict[str, Any]) -> None:
        dataset = check.dataset
        if "code" in answer:
            dataset_store.fail_check(self._db, check, answer["code"], answer["message"], answer["found"])
        else:
            dataset_store.finish_check(
                self._db,
                check,
                folder=self._folder(check),
                found=answer["found"],
                digest=answer["digest"],
                manifest_path=self._manifest_key(check),
                size_bytes=answer["size_bytes"],
            )
        _log.info("check.done", dataset_id=dataset.id, code=answer.get("code", "ready"))
        if dataset.source == Source.UPLOAD:
            # Recorded first: what is removed here is what no row points at any more.
            keep = uploads.unpacked_name(check.attempt) if "code" not in answer else None
            _clear(self._settings.uploads_folder / dataset.id, keep)

    def _sweep(self) -> None:
        now = time.monotonic()
        if self._swept_at is None or now - self._swept_at > uploads.GRACE_SECONDS:
            self._swept_at = now
            if swept := uploads.sweep(self._db, self._settings.uploads_folder):
                _log.info("uploads.swept", names=swept[:20], number=len(swept))

    # -- Details ---------------------------------------------------------------------------------

    def _request(self, check: Check) -> dict[str, Any]:
        dataset, below = check.dataset, self._settings.uploads_folder
        is_ours = dataset.source != Source.PATH
        root = below if is_ours else self._settings.data_folder
        return {
            "archive": str(below / dataset.id / uploads.ARCHIVE) if dataset.source == Source.UPLOAD else None,
            "builtin": self._builtin(check) if dataset.source == Source.BUILTIN else None,
            "folder": str(root / self._folder(check)),
            "root": str(root / self._folder(check) if is_ours else root),
            "max_bytes": self._settings.max_upload_bytes,
            "storage_url": self._settings.storage_url,
            "manifest_key": self._manifest_key(check),
            "threads": THREADS,
        }

    def _builtin(self, check: Check) -> dict[str, Any]:
        return {
            "name": Path(str(check.dataset.folder)).name,
            "builtins": str(self._settings.uploads_folder / builtin_datasets.FOLDER),
            "data_root": str(self._settings.data_folder),
            "downloads": self._settings.downloads,
        }

    @staticmethod
    def _folder(check: Check) -> str:
        if check.dataset.source == Source.UPLOAD:
            return f"{check.dataset.id}/{uploads.unpacked_name(check.attempt)}"
        return str(check.dataset.folder)

    @staticmethod
    def _manifest_key(check: Check) -> str:
        return f"datasets/{check.dataset.id}/manifest.attempt-{check.attempt}.json"


def _clear(folder: Path, keep: str | None) -> None:
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.name != keep:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
