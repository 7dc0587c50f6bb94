"""Connections to PostgreSQL that do not wait for ever for a server that takes requests and answers none.

Keepalives tell of a machine that is gone. They tell nothing of one that is frozen, or cut off behind a proxy:
its kernel, or the proxy, goes on to acknowledge every byte.
"""

import select
import time
from collections.abc import Generator
from typing import Any

import psycopg

#: Longer than the server lets any statement run.
ANSWER_SECONDS = 35.0


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself, with an OperationalError, when the server has been silent for too long."""

    def was_ended(self) -> bool:
        """Whether the server has left, or a keepalive told that it has; for a connection that nobody uses.

        A server says nothing unasked but good-bye, so this costs a look at the socket and no round trip.
        """
        if self.closed:
            return True
        watch = select.poll()
        watch.register(self.pgconn.socket, select.POLLIN)
        return bool(watch.poll(0))

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As its base's, which asks the generator ten times a second whether it is done."""
        return super().wait(self._within(gen, ANSWER_SECONDS), *args, **kwargs)

    def _within(self, gen: Any, seconds: float) -> Generator[Any, Any, Any]:
        give_up_at = time.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > give_up_at:
                    self.pgconn.finish()  # an answer that came now would be taken for the next one's
                    raise psycopg.OperationalError(f"The server did not answer for {seconds:g} s.")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
