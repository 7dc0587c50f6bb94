"""Who may come in, and how far: API keys, their scopes, and what protects an open server on loopback.

All of it is decided here by method and path, before any route, so that no route can forget to ask.
"""

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.caller import Caller, caller_with, is_for_the_operator, needed_scope
from api.known_keys import KnownKeys
from api.problems import Refused, problem_response, refused_for
from api.request_rate import RequestRate
from models import key_spec
from models.errors import PerdureError
from models.key_spec import Token
from models.settings import Settings

_OPEN_PATHS = ("/health/", "/v1/health/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Of PERDURE_API_KEYS; and everybody, where there is no key at all.
_OPERATOR = caller_with(key_spec.Scope.ADMIN)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Authentication:
    """Lets a request pass that bears a key which may do it, and leaves its ``Caller`` in the request's state.

    Where there never was a key, a server on loopback takes any request that no foreign web page sent.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        # Hashes have one length, so comparing them tells nothing about the keys.
        self._hashes = [_hash(key) for key in settings.api_keys]
        self._may_be_open = not settings.api_keys and is_loopback(settings.host)
        self._rate = RequestRate(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN_PATHS):
            try:
                caller = await self._caller(scope)
                scope["state"]["caller"] = caller  # first, so that refusals below are logged with it
                _expect_allowed(caller, scope["method"], scope["path"])
                self._rate.count(caller.tenant_id)
            except (Refused, PerdureError) as error:
                refused = error if isinstance(error, Refused) else refused_for(error)
                await problem_response(scope, refused)(scope, receive, send)
                return
            if caller.key_id is not None:
                send = _while_valid(send, scope["app"].state.services.known_keys, caller.key_id)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        """Raises Refused (401, 403), DatabaseUnavailable where only the database could tell."""
        headers, known = Headers(scope=scope), scope["app"].state.services.known_keys
        scheme, _, key = headers.get("authorization", "").partition(" ")
        presented = key.strip() if scheme.lower() == "bearer" else ""
        digest = _hash(presented)
        # Every hash is compared, whichever matches.
        known_here = [hmac.compare_digest(digest, own) for own in self._hashes]
        if any(known_here):
            return _OPERATOR
        stored = await _stored(known, presented)
        if stored is not None:
            return stored
        if self._may_be_open and not await known.any():
            _expect_same_site(scope["method"], headers)
            return _OPERATOR
        raise Refused(
            401,
            "unauthenticated",
            "Send one of the server's API keys: `Authorization: Bearer <key>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def _stored(known: KnownKeys, presented: str) -> Caller | None:
    token = Token.parse(presented)
    if token is None:
        return None
    key = await known.find(token.key_id)
    if not token.is_that_of(None if key is None else key.secret_sha256) or key is None:
        return None
    known.used(key.id)
    return caller_with(key_spec.Scope(key.scope), key.tenant_id, key.id)


def _while_valid(send: Send, known: KnownKeys, key_id: str) -> Send:
    """A stream goes on for hours, but not for longer than the key that it was opened with."""

    async def send_if_valid(message: Message) -> None:
        if message.get("more_body", False) and not await known.is_valid(key_id):
            raise OSError("the key was revoked")  # for the one who sends, as if the client had gone away
        await send(message)

    return send_if_valid


def _expect_allowed(caller: Caller, method: str, path: str) -> None:
    needed = needed_scope(method, path)
    if needed not in caller.scopes:
        raise Refused(
            403,
            "insufficient_scope",
            f"This takes a key with the scope `{needed}`; yours has {', '.join(sorted(caller.scopes))}.",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'},
        )
    if is_for_the_operator(path) and not caller.is_operator:
        raise Refused(
            403,
            "operator_only",
            "This concerns the whole installation; it takes a key of the tenant `default`.",
        )


def _expect_same_site(method: str, headers: Headers) -> None:
    """A page on the web that a user visits must not be able to cancel jobs on the user's own machine."""
    if method not in _SAFE_METHODS and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Refused(403, "cross_site_refused", "Another site's page sent this request; it was refused.")


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
