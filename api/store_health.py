"""Whether the checkpoint store takes writes: tried now and then, however often somebody asks."""

import threading
import time
from collections.abc import Callable

import structlog

from models.errors import StorageFailed
from models.storage import Storage

#: Probes of readiness come every second, from several sides; a bucket bills each request.
TRY_EVERY_SECONDS = 10.0
_log = structlog.get_logger()


class StoreHealth:
    """Threads may share it. While one of them tries a store that hangs, the others get the last answer."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage, self._clock = storage, clock
        self._trying = threading.Lock()
        self._tried_at: float | None = None
        self._is_good = True

    def is_good(self) -> bool:
        if self._trying.acquire(blocking=False):
            try:
                if self._tried_at is None or self._clock() - self._tried_at >= TRY_EVERY_SECONDS:
                    self._is_good = self._try()
                    self._tried_at = self._clock()
            finally:
                self._trying.release()
        return self._is_good

    def _try(self) -> bool:
        try:
            self._storage.probe()
        except (OSError, StorageFailed) as error:
            _log.warning("storage.degraded", error=str(error))
            return False
        return True
