"""Where the service listens: who may reach it, whether the port is free, whether anybody answers."""

import errno
import http.client
import os
import socket
from collections.abc import Callable

from perdure.errors import LocalStackError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def refuse_open_door(host: str, has_stored_key: Callable[[], bool]) -> None:
    """Raises LocalStackError for a service that anybody on the network could use."""
    keys = os.environ.get("PERDURE_API_KEYS", "").split(",")
    if host not in LOOPBACK and not any(key.strip() for key in keys) and not has_stored_key():
        raise LocalStackError(
            f"Without API keys the service listens on this machine only, not on {host}. Make one with "
            "`perdure keys create`, or set PERDURE_API_KEYS to one or more keys, separated by commas."
        )


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises LocalStackError if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise LocalStackError(_cannot_listen(host, port, error)) from error
        return int(probe.getsockname()[1])


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine ({reason}); choose another with --host."
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program; choose another with --port."
    return f"Port {port} on {host} cannot be used ({reason}); choose another with --port."


def is_ready(url: str) -> bool:
    """Whether /health/ready answers 200 now."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=1.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def shown(host: str) -> str:
    """The host as part of a URL that works on this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{reachable}]" if ":" in reachable else reachable
