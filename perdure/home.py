"""A home: the folder in which one embedded service keeps everything it has."""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from perdure.errors import LocalStackError

#: A unix socket's path holds 108 bytes at most, on macOS 104, the closing NUL included.
MAX_SOCKET_PATH = 103


class Home:
    """Where things are. Nothing is created before ``create``."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.database = self.root / "perdure.db"
        self.storage = self.root / "storage"
        self.data = self.root / "data"
        self.broker = self.root / "broker"
        self.logs = self.root / "logs"
        self._lock = self.root / "up.lock"

    def create(self) -> None:
        """Make the folders. Raises LocalStackError."""
        if any(character in str(self.root) for character in "?#%\n"):
            raise LocalStackError(
                f"{self.root} cannot be a home: ?, # and % have a meaning in database addresses."
            )
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.storage, self.data, self.broker, self.logs):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise LocalStackError(f"{self.root} cannot be used as a home: {error.strerror}.") from error

    @contextlib.contextmanager
    def locked(self, url: str) -> Iterator[None]:
        """Hold the home for one `perdure up`. Raises LocalStackError if another one has it.

        The kernel lets go of the lock with the process, so nothing stale is ever left behind.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalStackError(self._who_holds_it()) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode())
            yield
        finally:
            os.close(descriptor)

    def _who_holds_it(self) -> str:
        try:
            holder = json.loads(self._lock.read_text())
            return (
                f"`perdure up` already runs on {self.root}: process {holder['pid']}, at {holder['url']}. "
                "Use that one, stop it, or choose another --home."
            )
        except (OSError, ValueError, KeyError, TypeError):  # it is just about to write the file
            return f"`perdure up` already runs on {self.root}. Stop it, or choose another --home."

    def runtime_folder(self) -> Path:
        """A short, private folder for sockets, the same for each start. Raises LocalStackError."""
        digest = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:8]
        name = f"perdure-{os.getuid()}-{digest}"
        base = Path(tempfile.gettempdir())
        if len(os.fsencode(base / name / "broker.sock")) > MAX_SOCKET_PATH:
            base = Path("/tmp")  # noqa: S108 - the folder's owner and mode are checked below
        folder = base / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LocalStackError(
                f"{folder} cannot be made: {error.strerror}; point TMPDIR elsewhere."
            ) from error
        # In a folder that all may write to, somebody may have been there first: with a folder of their own,
        # or with a link to one.
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise LocalStackError(f"{folder} belongs to somebody else; remove it, or point TMPDIR elsewhere.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
        return folder
