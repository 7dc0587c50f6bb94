"""The outermost layer: a request id, one structured log line a request, and no exception beyond it."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Refused, internal_error, problem_response

#: A caller's own id is kept when it can neither break a log line nor fill it.
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_LOGGED_CHARACTERS = 300
#: As nginx logs it: the client went away, so nothing was sent.
_CLIENT_GONE = 499
_log = structlog.get_logger()


def _may_mislead(scope: Scope, headers: Headers) -> bool:
    """Whether a proxy may see its end elsewhere, and take what follows for another caller's request."""
    has_two_lengths = "content-length" in headers and "transfer-encoding" in headers
    return has_two_lengths or scope.get("http_version", "1.1") not in {"1.0", "1.1"}


async def _refuse_as_malformed(scope: Scope, receive: Receive, send: Send) -> None:
    refused = Refused(
        400,
        "malformed_request",
        "Send HTTP/1.1, with a Content-Length or a Transfer-Encoding, and not with both.",
        headers={"Connection": "close"},
    )
    await problem_response(scope, refused)(scope, receive, send)


class RequestLog:
    """Gives every request an id, which its answer, its log lines and its problems carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.perf_counter()
        status: int | None = None
        headers = Headers(scope=scope)
        body_waits = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

        async def receive_body() -> Message:
            nonlocal body_waits
            message = await receive()
            if not message.get("more_body", False):
                body_waits = False
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["X-Request-Id"] = request_id
                answered["X-Content-Type-Options"] = "nosniff"
                if body_waits and message["status"] >= 400:
                    # Refused unread: nobody shall have to take in the rest of what may be endless.
                    answered["Connection"] = "close"
            await send(message)

        app = _refuse_as_malformed if _may_mislead(scope, headers) else self._app
        try:
            await app(scope, receive_body, send_with_id)
        except ClientDisconnect:
            status = status or _CLIENT_GONE
        except Exception:
            _log.exception("request.failed", path=scope["path"][:_LOGGED_CHARACTERS])
            if status is not None:  # half an answer is out: breaking the connection is all that is left
                raise
            await problem_response(scope, internal_error())(scope, receive_body, send_with_id)
        finally:
            caller = scope["state"].get("caller")
            quiet = scope["path"].startswith("/health") and status == 200
            (_log.debug if quiet else _log.info)(
                "request",
                method=scope["method"],
                path=scope["path"][:_LOGGED_CHARACTERS],
                status=status,
                milliseconds=round(1000 * (time.perf_counter() - began), 1),
                **({} if caller is None else {"tenant_id": caller.tenant_id, "key_id": caller.key_id}),
            )
