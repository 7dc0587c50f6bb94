"""Connections that send their headers a byte at a time are closed; uvicorn alone keeps them for ever.

What is no HTTP is refused as a problem, like everything else; who is refused unread gets to see why.
Requests can break their connection: `scope["state"]["abort"]`.
"""

import asyncio
import uuid
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.lingering import Lingering
from api.problems import Refused, problem_response

HEADER_SECONDS = 20.0


class HeaderDeadline(H11Protocol):
    """uvicorn's protocol, with a limit on the time between a request's first byte and the end of its headers.

    For a new connection the time runs from its beginning.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._line = Lingering(transport, self.loop)
        super().connection_made(self._line)  # type: ignore[arg-type]
        # For answers without end: `close` alone waits until the client has taken what is on its way.
        self.app_state = {**self.app_state, "abort": transport.abort}
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._line.throws_away(data):
            return
        super().data_received(data)
        self._line.is_sending = self.conn.their_state in {h11.SEND_BODY, h11.ERROR}
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What comes next is limited by the keep-alive timer until its first byte is here.
        self._stop()

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's plain text; no request ever came of it, so the layers above never see it."""
        refused = Refused(400, "malformed_request", "This is no HTTP/1.1, or its headers are too large.")
        request_id = uuid.uuid4().hex
        answer = problem_response({"state": {"request_id": request_id}}, refused)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=answer.status_code, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
