"""API keys, and what protects a server on loopback that has none."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Refused, problem_response

_OPEN_PATHS = ("/health/", "/v1/health/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Authentication:
    """Lets a request pass that bears one of the keys; without keys, any that no foreign web page sent."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        # Hashes have one length, so comparing them tells nothing about the keys.
        self._hashes = [_hash(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN_PATHS):
            refused = self._refusal(scope["method"], Headers(scope=scope))
            if refused is not None:
                await problem_response(scope, refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Refused | None:
        if not self._hashes:
            return _cross_site(method, headers)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        presented = _hash(key.strip())
        # Every hash is compared, whichever matches.
        known = [hmac.compare_digest(presented, own) for own in self._hashes]
        if scheme.lower() == "bearer" and any(known):
            return None
        return Refused(
            401,
            "unauthenticated",
            "Send one of the server's API keys: `Authorization: Bearer <key>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _cross_site(method: str, headers: Headers) -> Refused | None:
    """A page on the web that a user visits must not be able to cancel jobs on the user's own machine."""
    if method in _SAFE_METHODS or headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
        return None
    return Refused(403, "cross_site_refused", "Another site's page sent this request; it was refused.")


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
