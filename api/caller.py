"""Who sends a request: of which tenant, and what it may do."""

import re
from dataclasses import dataclass

from models.key_spec import OPERATOR, Scope

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: What concerns the whole installation, and tells or touches what is of other tenants.
_OF_THE_OPERATOR = re.compile(r"/metrics|/workers/.+")


@dataclass(frozen=True)
class Caller:
    """Known from the request's key by the time that a route sees it."""

    tenant_id: str
    scopes: frozenset[Scope]
    key_id: str | None  #: None for a key of PERDURE_API_KEYS, and for everybody where there are no keys

    @property
    def is_operator(self) -> bool:
        """Whether it belongs to whoever runs the installation."""
        return self.tenant_id == OPERATOR


def caller_with(scope: Scope, tenant_id: str = OPERATOR, key_id: str | None = None) -> Caller:
    """With everything that ``scope`` includes."""
    return Caller(tenant_id, frozenset(scope.included), key_id)


def needed_scope(method: str, path: str) -> Scope:
    """By method and path alone, so that no route can forget it."""
    path = path.removeprefix("/v1")
    if path == "/keys" or path.startswith("/keys/"):
        return Scope.ADMIN
    if method in _SAFE_METHODS:
        return Scope.READ
    return Scope.ADMIN if path.startswith("/workers/") else Scope.WRITE


def is_for_the_operator(path: str) -> bool:
    """Whether callers of other tenants have no business there."""
    return _OF_THE_OPERATOR.fullmatch(path.removeprefix("/v1")) is not None
