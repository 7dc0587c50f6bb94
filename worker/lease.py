"""The lease on a job: renewed from a thread of its own, so that a slow write elsewhere cannot lose it."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable, LeaseLost
from models.host import boot_time_clock
from models.job_store import Fence, Requests
from models.settings import Settings

_log = structlog.get_logger()

#: After a failed renewal the next try comes sooner, so that a database that is back is noticed at once.
_RETRY_SECONDS = 1.0


class Lease:
    """Renews while the attempt is followed; says when it is lost, and what users asked for."""

    def __init__(
        self,
        db: Database,
        fence: Fence,
        settings: Settings,
        *,
        on_renewed: Callable[[float], object],
        on_news: Callable[[], object],
    ) -> None:
        """``on_renewed`` gets the boot time from before the request; ``on_news`` wakes the follower."""
        self._db = db
        self._fence = fence
        self._settings = settings
        self._on_renewed = on_renewed
        self._on_news = on_news
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.requests = Requests(cancel=False, pause=False)
        self.lost = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        # A renewal under way may hang with the database; it is fenced, so it need not be waited for.
        self._thread.join(timeout=1.0)

    def heard(self, requests: Requests) -> None:
        """Other writes answer what was asked for, too."""
        if requests != self.requests:
            self.requests = requests
            self._on_news()

    def _run(self) -> None:
        pause = 0.0  # the first renewal tells the trainer that its lease is fresh
        while not self._ended.wait(pause):
            # From before the request is sent: the lease runs at least that long after this instant.
            before = boot_time_clock()
            try:
                requests = job_store.renew(self._db, self._fence, self._settings.lease_seconds)
            except LeaseLost:
                self.lost = not self._ended.is_set()
                self._on_news()
                return
            except DatabaseUnavailable as error:
                _log.warning("lease.not_renewed", job_id=self._fence.job_id, error=error.reason)
                pause = min(_RETRY_SECONDS, self._settings.heartbeat_seconds)
                continue
            if self._ended.is_set():  # the answer came late: there is nobody left to tell
                return
            self._on_renewed(before)
            self.heard(requests)
            pause = self._settings.heartbeat_seconds
