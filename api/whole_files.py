"""Files for download that are not stored as such: made once, by few processes, for many requests."""

import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import structlog

from api.download_cache import DownloadCache, Entry
from api.materialising import Kind, Materialising, Request
from models.errors import DownloadFailed, DownloadNotReady
from models.job_store.fence import JobRow

MAX_CACHE_BYTES = 5 * 10**9
MAX_PROCESSES = 2
#: For one process. Whoever asked gives up long before; the file is there when he asks again.
LIMIT_SECONDS = 300.0
#: Below the patience of usual clients, so that they read the answer that says when to come back.
WAIT_SECONDS = 20.0
#: Requests that wait hold a thread each: some threads are left for everybody else.
MAX_WAITING = 24
#: No two differ after the last dot alone: what describes a file is called by the rest of its name.
_ENDINGS: dict[Kind, str] = {"checkpoint": ".pth", "model": ".model.zip", "onnx": ".network.onnx"}
_log = structlog.get_logger()


class WholeFiles:
    """What the API process knows of such files. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        storage_url: str,
        *,
        materialising: Materialising | None = None,
        max_cache_bytes: int = MAX_CACHE_BYTES,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._cache = DownloadCache(folder, max_cache_bytes)
        self._storage_url, self._wait_seconds = storage_url, wait_seconds
        self._materialising = materialising or Materialising(limit_seconds=LIMIT_SECONDS)
        self._pool = ThreadPoolExecutor(MAX_PROCESSES, thread_name_prefix="materialise")
        self._changing = threading.Lock()
        self._in_work: dict[str, Future[Entry]] = {}
        self._num_waiting = 0
        self._cache.sweep()

    def close(self) -> None:
        """Give up what is in work; requests that wait for it are answered at once."""
        self._materialising.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def entry(self, checkpoint: JobRow, kind: Kind = "checkpoint") -> Entry:
        """Size and hash of the file, which is made if it never was.

        Raises CheckpointDamaged, CheckpointFormatUnknown, TorchMissing, DownloadFailed, DownloadNotReady; for
        ONNX also OnnxMissing, OnnxUnsupported.
        """
        return self._cache.find(_name(checkpoint, kind)) or self._make(checkpoint, kind)

    def open(self, checkpoint: JobRow, entry: Entry, kind: Kind = "checkpoint") -> IO[bytes]:
        """The file of this entry, made again if the cache let it go meanwhile. Raises as ``entry``."""
        name = _name(checkpoint, kind)
        stream = self._cache.open(name, entry)
        if stream is None:
            self._cache.forget(name)
            again = self._make(checkpoint, kind)
            stream = self._cache.open(name, again)
            if stream is not None and again.sha256 != entry.sha256:
                # Headers are made of the entry that is gone; whoever asks again gets those of the new one.
                stream.close()
                stream = None
        if stream is None:
            raise DownloadNotReady
        return stream

    def _make(self, checkpoint: JobRow, kind: Kind) -> Entry:
        """Wait for the file, together with all who want it."""
        name = _name(checkpoint, kind)
        with self._changing:
            work = self._in_work.get(name)
            if self._num_waiting >= MAX_WAITING or (work is None and len(self._in_work) >= MAX_WAITING):
                raise DownloadNotReady("Too many downloads are being prepared; try again in a few seconds.")
            if work is None:
                work = self._in_work[name] = self._pool.submit(self._work, checkpoint, kind)
            self._num_waiting += 1
        try:
            return work.result(self._wait_seconds)
        except (TimeoutError, CancelledError):
            raise DownloadNotReady from None
        finally:
            with self._changing:
                self._num_waiting -= 1

    def _work(self, checkpoint: JobRow, kind: Kind) -> Entry:
        """In a thread of the pool, which lives as long as the API: the child would die with it."""
        name = _name(checkpoint, kind)
        try:
            if entry := self._cache.find(name):  # made a moment ago, maybe by another process
                return entry
            began_at = time.monotonic()
            _log.info("materialise.started", checkpoint_id=checkpoint.id, kind=kind)
            destination = self._cache.path(name)
            entry = self._materialising.run(Request(self._storage_url, kind, checkpoint, destination))
            self._cache.describe(name, entry)
        except OSError as error:
            raise DownloadFailed(
                f"The file cannot be kept in {self._cache.folder}: {error.strerror or error}. Free "
                "some space there, or repair it, and try again."
            ) from error
        finally:
            self._cache.sweep()
            with self._changing:
                del self._in_work[name]
        seconds = round(time.monotonic() - began_at, 3)
        _log.info(
            "materialise.done", checkpoint_id=checkpoint.id, seconds=seconds, size_bytes=entry.size_bytes
        )
        return entry


def _name(checkpoint: JobRow, kind: Kind) -> str:
    return f"{checkpoint.id}{_ENDINGS[kind]}"
