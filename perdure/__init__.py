"""Perdure: training jobs that survive ``kill -9`` and end with bit-identical weights.

This package is what a user installs to talk to a server: ``Perdure``, its typed client, and the ``perdure``
command. It imports no server and no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.client import Perdure as Perdure
    from perdure.errors import PerdureAPIError as PerdureAPIError
    from perdure.errors import PerdureClientError as PerdureClientError
    from perdure.errors import ServerUnreachableError as ServerUnreachableError

__all__ = ["Perdure", "PerdureAPIError", "PerdureClientError", "ServerUnreachableError"]

_HOMES = {
    "Perdure": "perdure.client",
    "PerdureAPIError": "perdure.errors",
    "PerdureClientError": "perdure.errors",
    "ServerUnreachableError": "perdure.errors",
}


def __getattr__(name: str) -> object:
    # Lazy, because the command line imports this package first and `perdure --help` needs neither
    # an HTTP client nor pydantic: they would double its 0.25 s.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
