"""One request to a receiver: bounded in time and size, to a judged address, following no redirect."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2

from models.errors import WebhookUrlInvalid
from models.version import VERSION
from models.webhooks.addresses import judged

TIMEOUT_SECONDS = 10.0
#: Of an answer so much is read, so that the connection ends in order; nothing of it is kept.
MAX_ANSWER_BYTES = 65_536

_GONE = 410


@dataclass(frozen=True)
class Outcome:
    """What became of one sending."""

    status_code: int | None  #: None without an answer
    error: str | None  #: a sentence; None if it was accepted
    is_gone: bool = False  #: the receiver wants no more

    @property
    def is_accepted(self) -> bool:
        return self.error is None


class Sender:
    """Sends from any thread; keeps no connection, so that each is judged anew."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_keepalive_connections=0,
            network_backend=_JudgedBackend(allowed_hosts),
        )

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Never raises for what a receiver or the network does."""
        limits = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
        sent = [("content-type", "application/json"), ("user-agent", f"Perdure/{VERSION}"), *headers.items()]
        try:
            with self._pool.stream(
                "POST", url, headers=sent, content=body, extensions={"timeout": limits}
            ) as answer:
                _read_some(answer.iter_stream())
                status = answer.status
        except WebhookUrlInvalid as error:
            return Outcome(None, error.message)
        except (httpcore2.TimeoutException, TimeoutError):
            return Outcome(None, f"No answer within {TIMEOUT_SECONDS:g} s.")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            return Outcome(None, f"It could not be reached: {error}."[:500])
        if 200 <= status < 300:
            return Outcome(status, None)
        if 300 <= status < 400:
            return Outcome(status, f"It answered {status}; redirects are not followed: name the final URL.")
        return Outcome(status, f"It answered {status}.", is_gone=status == _GONE)

    def close(self) -> None:
        self._pool.close()


def _read_some(stream: Iterable[bytes]) -> None:
    left = MAX_ANSWER_BYTES
    for chunk in stream:
        left -= len(chunk)
        if left <= 0:
            return


class _JudgedBackend(httpcore2.NetworkBackend):
    """Connects to the address that was judged, never to what a second look-up of the name would give."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._allowed_hosts = allowed_hosts
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        address = judged(host, port, self._allowed_hosts)
        return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
