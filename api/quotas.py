"""What a tenant may keep in the store, judged when it wants more."""

import threading
import time
from collections.abc import Callable

from models import job_store
from models.database import Database
from models.errors import QuotaExceeded

#: Adding up takes time that grows with the checkpoints, and a job adds to them for minutes anyway.
SUM_EVERY_SECONDS = 10.0


class StoreQuota:
    """At most ``max_bytes`` for each tenant, None for any number. Threads may share it."""

    def __init__(
        self, db: Database, max_bytes: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db, self._max_bytes, self._clock = db, max_bytes, clock
        self._changing = threading.Lock()
        self._sums: dict[str, tuple[int, float]] = {}

    def expect_room(self, tenant_id: str) -> None:
        """Raises QuotaExceeded where the tenant has used up what it may have, DatabaseUnavailable."""
        if self._max_bytes is not None and self._stored(tenant_id) >= self._max_bytes:
            raise QuotaExceeded(
                f"Your checkpoints take {self._max_bytes:,} bytes or more, which is all that you may have;"
                " delete what you no longer need, and try again."
            )

    def _stored(self, tenant_id: str) -> int:
        with self._changing:
            stored, summed_at = self._sums.get(tenant_id, (0, float("-inf")))
        if self._clock() - summed_at >= SUM_EVERY_SECONDS:
            summed_at = self._clock()
            stored = job_store.stored_bytes(self._db, tenant_id)
            with self._changing:
                self._sums[tenant_id] = (stored, summed_at)
        return stored
