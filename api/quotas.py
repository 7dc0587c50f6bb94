"""What a tenant may keep in the store, judged when it wants more."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

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
        self._arriving: Counter[str] = Counter()

    def expect_room(self, tenant_id: str, more: int = 0) -> None:
        """Raises QuotaExceeded where the tenant has used up what it may have, DatabaseUnavailable.

        ``more``: bytes that are about to come, as far as that is known.
        """
        if self._max_bytes is not None:
            self._judge(self._stored(tenant_id) + self._arriving[tenant_id], more)

    @contextlib.contextmanager
    def upload(self, tenant_id: str) -> Iterator[Callable[[int], None]]:
        """Gives what is to be told of bytes as they arrive, and raises QuotaExceeded for those too many.

        After ``expect_room``, whose sum it goes by: it asks no database. Of several uploads at once, to this
        process, each sees the bytes of the others.
        """
        arrived = 0

        def count(more: int) -> None:
            nonlocal arrived
            if self._max_bytes is None or not more:
                return
            with self._changing:
                arrived += more
                self._arriving[tenant_id] += more
                stored, _ = self._sums.get(tenant_id, (0, 0.0))
                taken = stored + self._arriving[tenant_id] - more
            self._judge(taken, more)

        try:
            yield count
        finally:
            with self._changing:
                self._arriving[tenant_id] -= arrived
                self._sums.pop(tenant_id, None)  # they are the store's now, or gone

    def _judge(self, taken: int, more: int) -> None:
        assert self._max_bytes is not None  # noqa: S101 - narrows the type
        if taken >= self._max_bytes:
            raise QuotaExceeded(
                f"Your checkpoints and uploads take {self._max_bytes:,} bytes or more, which is all that you "
                "may have; delete what you no longer need, and try again."
            )
        if taken + more > self._max_bytes:
            raise QuotaExceeded(
                f"You may store {self._max_bytes:,} bytes, and {self._max_bytes - taken:,} of them are left, "
                "which is less than this upload; delete what you no longer need, or send less."
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
