"""The checkpoint store: whole, durable, verified objects under immutable names.

Bytes first, record second: an object exists for Perdure only once a database row points at it.
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

from models.errors import SpecInvalid, StorageFailed

CHUNK = 4 * 2**20
TEMPORARY = ".partial"


@dataclass(frozen=True)
class StoredObject:
    """What a finished write left behind."""

    key: str
    size_bytes: int
    sha256: str


class HashingWriter:
    """A binary sink that hashes and counts what passes through it."""

    def __init__(self, descriptor: int, on_bytes: Callable[[int], object]) -> None:
        self._descriptor = descriptor
        self._on_bytes = on_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self.size_bytes += len(view)
        total = len(view)
        while view:  # a short write is legal, and usual when the disk is nearly full
            view = view[os.write(self._descriptor, view[:CHUNK]) :]
            self._on_bytes(self.size_bytes)
        return total

    def flush(self) -> None:
        """Nothing is buffered here; durability is one fsync at the end."""

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Storage(Protocol):
    """One small protocol for every kind of store. Keys are relative, with forward slashes."""

    def write(
        self, key: str, produce: Callable[[HashingWriter], object], on_bytes: Callable[[int], object] = ...
    ) -> StoredObject:
        """Make ``key`` durable from what ``produce`` writes, and verify it. Raises StorageFailed."""

    def open(self, key: str) -> IO[bytes]:
        """Read an object. Raises FileNotFoundError."""

    def local_path(self, key: str) -> Path:
        """A file with the object's bytes on this machine."""

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is gone already."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every object below ``prefix``, leftovers of unfinished writes included."""


class LocalStorage:
    """A folder, on a local or a shared file system; needs neither locks nor link counts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def local_path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"{key!r} leads out of the store")
        return path

    def write(
        self,
        key: str,
        produce: Callable[[HashingWriter], object],
        on_bytes: Callable[[int], object] = lambda size: None,
    ) -> StoredObject:
        final = self.local_path(key)
        temporary = final.with_name(f"{final.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        try:
            _make_durable_folder(final.parent)
            written = _write_durably(temporary, produce, on_bytes)
            # A kill before the rename leaves a temporary name, after it an unrecorded object: both
            # are garbage that nobody believes in.
            temporary.rename(final)
            _sync_folder(final.parent)
            stored = StoredObject(key, written.size_bytes, written.sha256)
            if _hash_from_disk(final, on_bytes) != stored.sha256:
                raise StorageFailed(
                    f"{key} reads back differently from what was written; the disk may be failing."
                )
        except OSError as error:
            raise StorageFailed(
                f"Writing {key} failed: {error.strerror or error}. Free some space or repair the store."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return stored

    def open(self, key: str) -> IO[bytes]:
        return self.local_path(key).open("rb")

    def delete(self, key: str) -> None:
        path = self.local_path(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            _sync_folder(path.parent)

    def keys(self, prefix: str) -> Iterator[str]:
        for path in sorted(self.local_path(prefix).rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root.resolve()).as_posix()


def storage_from_url(url: str) -> Storage:
    """The store behind ``file:///path``. Raises SpecInvalid for a scheme that is not supported."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc:
        raise SpecInvalid(f"PERDURE_STORAGE_URL must look like file:///path, not {parts.scheme}://…")
    return LocalStorage(Path(unquote(parts.path)))


def sha256_of(stream: IO[bytes], on_bytes: Callable[[int], object] = lambda size: None) -> str:
    """The hex digest of everything that ``stream`` still holds."""
    digest = hashlib.sha256()
    size = 0
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        on_bytes(size)
    return digest.hexdigest()


def _write_durably(
    path: Path, produce: Callable[[HashingWriter], object], on_bytes: Callable[[int], object]
) -> HashingWriter:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        sink = HashingWriter(descriptor, on_bytes)
        produce(sink)
        # After a failed fsync the kernel may have dropped the pages: the file is discarded, never
        # fsynced again.
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return sink


def _hash_from_disk(path: Path, on_bytes: Callable[[int], object]) -> str:
    with path.open("rb") as stream:
        return sha256_of(stream, on_bytes)


def _make_durable_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
