"""What trainers print, as files: where each attempt's goes, and how it gets to a store without files."""

import re
import shutil
import threading
from functools import partial
from pathlib import Path

import structlog

from models.errors import StorageFailed
from models.job_store import Fence
from models.storage import HashingWriter, LocalStorage, Storage

_log = structlog.get_logger()

_NAME = re.compile(r"attempt-(\d+)\.log")


class TrainerLogs:
    """A folder of the store serves as it is: a crash loses nothing, and the API sees the output live.

    For any other store the output goes to a file on this machine, and to the store when the attempt has
    ended. That is done on the side and only tried: a log is not worth a job.
    """

    def __init__(self, storage: Storage, home: Path) -> None:
        self._storage, self._folder = storage, home / "logs"
        self._one_at_a_time = threading.Lock()
        self._threads: list[threading.Thread] = []

    def path(self, fence: Fence) -> Path:
        """Where the trainer of this attempt prints to."""
        if isinstance(self._storage, LocalStorage):
            return self._storage.local_path(_key(fence.job_id, fence.attempt))
        return self._folder / fence.job_id / f"attempt-{fence.attempt}.log"

    def ended(self, job_id: str, attempt: int) -> None:
        """Hand in the logs of this attempt and of those before it that ran here; returns at once."""
        if isinstance(self._storage, LocalStorage) or not (self._folder / job_id).is_dir():
            return
        # A daemon, so that a store that is away holds up nobody who wants to leave.
        thread = threading.Thread(target=self._hand_in, args=(job_id, attempt), name="logs", daemon=True)
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()

    def wait(self, timeout: float) -> None:
        """Give what is on its way a little time."""
        for thread in self._threads:
            thread.join(timeout)

    def _hand_in(self, job_id: str, last: int) -> None:
        folder = self._folder / job_id
        with self._one_at_a_time:
            for path in sorted(folder.glob("attempt-*.log")):
                found = _NAME.fullmatch(path.name)
                if found is None or int(found[1]) > last:
                    continue
                try:
                    self._storage.write(_key(job_id, int(found[1])), partial(_copy, path))
                    path.unlink()
                except (OSError, StorageFailed):
                    _log.exception("log.stays_here", path=str(path))  # tried again after the next attempt


def _key(job_id: str, attempt: int) -> str:
    return f"jobs/{job_id}/logs/attempt-{attempt}.log"


def _copy(path: Path, sink: HashingWriter) -> None:
    with path.open("rb") as stream:
        shutil.copyfileobj(stream, sink)
