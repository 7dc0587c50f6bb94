"""What a frozen process can do to its neighbours on SQLite: hold the lock that all writes need.

A lease cannot help, since nobody can write that it expired. `perdure up` can: it sees that writes are
blocked, and which of its children are stopped.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

PROBE_SECONDS = 1.0
#: Well beyond any write of ours, well below a lease.
BLOCKED_SECONDS = 5.0


class BlockedWrites:
    """Tries now and then to begin a write, and remembers for how long that has failed."""

    def __init__(self, database: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._blocked_since: float | None = None

    def too_long(self) -> bool:
        """Probe once; whether no write has been possible for BLOCKED_SECONDS."""
        began = self._clock()
        if self._can_write():
            self._blocked_since = None
            return False
        if self._blocked_since is None:
            self._blocked_since = began
        return self._clock() - self._blocked_since >= BLOCKED_SECONDS

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _can_write(self) -> bool:
        try:
            if self._connection is None:
                address = f"{self._database.as_uri()}?mode=rw"  # never the one that creates it
                self._connection = sqlite3.connect(
                    address, uri=True, timeout=PROBE_SECONDS, isolation_level=None
                )
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            with contextlib.suppress(sqlite3.Error):
                self.close()
            return not _is_busy(error)  # any other trouble is not for us to judge
        return True


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP) and not continued; False where that cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The name of the program is in parentheses and may hold any character, parentheses included.
    return stat.rpartition(")")[2].split()[0] == "T"


def database_of(url: str) -> Path | None:
    """The file behind a SQLite address, None for any other database."""
    scheme, separator, path = url.partition(":///")
    if not separator or scheme.partition("+")[0] != "sqlite" or not path:
        return None
    return Path(path.partition("?")[0]).absolute()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
