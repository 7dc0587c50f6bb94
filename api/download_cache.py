"""Files put together for downloads, kept for the next one: bounded, disposable, shared by processes.

Of an entry there is first its file, such as ``<checkpoint id>.pth``, then ``<checkpoint id>.json`` that
describes it. A file is served only if it is the one that its description was written for, so that several
processes with one folder may replace, describe and remove entries in any order.
"""

import contextlib
import fcntl
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

PARTIAL = ".partial"
SUFFIXES = frozenset({".pth", ".zip", ".onnx"})
#: A file that was made just now may not be locked yet.
FRESH_SECONDS = 1.0
#: Where a file system has no locks, leftovers are known by their age alone.
STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class Entry:
    """What is known of one file without opening it."""

    size_bytes: int
    sha256: str
    modified_ns: int


class DownloadCache:
    """A folder of at most ``max_bytes``, the newest entry aside: the least recently used go.

    Entries are called by their file's name, which ends in one of ``SUFFIXES``; no two differ in that alone.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self._max_bytes = folder, max_bytes

    def path(self, name: str) -> Path:
        """Where the file belongs; its folder exists afterwards. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder / name

    def find(self, name: str) -> Entry | None:
        """The description, whether or not the file is still there; its use is noted."""
        described = self._description(name)
        try:
            entry = Entry(**json.loads(described.read_text()))
            os.utime(described)
        except (OSError, ValueError, TypeError):  # not there, or not written by this version
            return None
        return entry

    def open(self, name: str, entry: Entry) -> IO[bytes] | None:
        """The described file, None if it is gone or another one. Once open, its removal does no harm."""
        try:
            stream = (self.folder / name).open("rb")
        except FileNotFoundError:
            return None
        found = os.fstat(stream.fileno())
        if (found.st_size, found.st_mtime_ns) == (entry.size_bytes, entry.modified_ns):
            return stream
        stream.close()
        return None

    def describe(self, name: str, entry: Entry) -> None:
        """Make a finished file an entry, and let go of what is too much. Raises OSError."""
        described = self._description(name)
        partial = described.with_name(f"{described.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            partial.write_text(json.dumps(asdict(entry)))
            partial.replace(described)
        finally:
            partial.unlink(missing_ok=True)
        self._make_room(keep=name)

    def forget(self, name: str) -> None:
        """Remove an entry; the description first, so that none is believed without its file for long."""
        self._description(name).unlink(missing_ok=True)
        (self.folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes that were killed left unfinished, and nothing that is being written."""
        for partial in self.folder.glob(f"*{PARTIAL}"):
            with contextlib.suppress(OSError):
                if _is_abandoned(partial):
                    partial.unlink()

    def _description(self, name: str) -> Path:
        return (self.folder / name).with_suffix(".json")

    def _make_room(self, keep: str) -> None:
        """Oldest use first. Files without a description count with the age of their bytes."""
        entries = []
        for file in (path for path in self.folder.glob("*.*") if path.suffix in SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                found, described = file.stat(), self._description(file.name)
                used_at = described.stat().st_mtime if described.exists() else found.st_mtime
                entries.append((file.name == keep, used_at, found.st_size, file.name))
        total = sum(size for _, _, size, _ in entries)
        for is_new, _, size, name in sorted(entries):
            if total <= self._max_bytes or is_new:
                return
            self.forget(name)
            total -= size


def _is_abandoned(partial: Path) -> bool:
    """Whoever writes a file holds a lock on it, which the kernel takes back with his life."""
    age_seconds = time.time() - partial.stat().st_mtime
    if age_seconds < FRESH_SECONDS:
        return False
    with partial.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return age_seconds > STALE_SECONDS
    return True
