"""How often a tenant may ask; counted by each API process for itself, in memory."""

import math
import time
from collections import deque
from collections.abc import Callable

from api.problems import Refused

WINDOW_SECONDS = 60.0


class RequestRate:
    """At most ``per_minute`` requests of each tenant in any minute, None for any number.

    Used from the event loop alone. By a clock that nobody sets: one that was set back would shut tenants out.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._let_pass: dict[str, deque[float]] = {}

    def count(self, tenant_id: str) -> None:
        """One more. Raises Refused (429), which says when there is room for the next one."""
        if self._per_minute is None:
            return
        latest = self._let_pass.setdefault(tenant_id, deque(maxlen=self._per_minute))
        now = self._clock()
        wait = latest[0] + WINDOW_SECONDS - now if len(latest) == self._per_minute else 0.0
        if wait > 0.0:
            raise Refused(
                429,
                "rate_limited",
                f"More than {self._per_minute} requests in a minute; send fewer, or more slowly.",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        latest.append(now)
