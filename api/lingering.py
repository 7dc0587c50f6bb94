"""Closing a connection whose client is still sending, so that it gets to see the answer.

Where unread bytes wait, closing resets the connection, and the reset overtakes the answer that says why.
"""

import asyncio
from typing import Any

#: What a refused client still sends is thrown away within these bounds, and then it is cut off.
SECONDS = 2.0
MAX_BYTES = 16 * 2**20


class Lingering:
    """A transport whose ``close`` can be put off; all else goes to the real one."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._is_closing = False
        self._thrown_away = 0
        #: Set by whoever knows that the client has not said everything.
        self.is_sending = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Also while it lingers: nothing more will be answered."""
        return self._is_closing or bool(self._transport.is_closing())

    def close(self) -> None:
        """At once, or when the client has closed its side or used up what it was given."""
        if self._is_closing or not (self.is_sending and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._is_closing = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(SECONDS, self._transport.abort)

    def throws_away(self, data: bytes) -> bool:
        """Whether it lingers, and so nobody is to read this."""
        self._thrown_away += len(data) if self._is_closing else 0
        if self._thrown_away > MAX_BYTES:
            self._transport.abort()
        return self._is_closing
