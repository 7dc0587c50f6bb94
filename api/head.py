"""HEAD wherever there is GET: the same status and headers, and no body."""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Answers HEAD as GET up to the body, which is neither computed to its end nor sent.

    FastAPI's routes have only the methods that they name, and naming HEAD at each would list every
    operation twice.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                await send(message)
                return
            if not is_answered:
                is_answered = True
                await send({"type": "http.response.body", "body": b""})
            if message.get("more_body", False):
                # As if the client had gone away: a file need not be read for this, and a stream has no end.
                raise OSError("HEAD has no body")

        try:
            # A scope of its own: the layers above, and the server, go on to see HEAD.
            await self._app({**scope, "method": "GET"}, receive, send_head)
        except (ClientDisconnect, OSError):
            if not is_answered:
                raise
