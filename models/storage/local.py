"""Checkpoints in a folder: the full sequence of fsync and rename, and a read-back from the disk."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import xxhash

from models.errors import StorageFailed
from models.storage.protocol import (
    CHUNK,
    TEMPORARY,
    HashingWriter,
    OnBytes,
    StoredObject,
    nobody,
)


class FileWriter(HashingWriter):
    """Writes through to an open file."""

    def __init__(self, descriptor: int, on_bytes: OnBytes) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._on_bytes = on_bytes

    def _take(self, view: memoryview) -> None:
        while view:  # a short write is legal, and usual when the disk is nearly full
            view = view[os.write(self._descriptor, view[:CHUNK]) :]
            self._on_bytes(self.size_bytes)


class LocalStorage:
    """A folder, on a local or a shared file system; needs neither locks nor link counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable_folders: set[Path] = set()

    def local_path(self, key: str) -> Path:
        """The object's file. Raises ValueError for a key that leads out of the store."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"{key!r} leads out of the store")
        return path

    def write(
        self,
        key: str,
        produce: Callable[[HashingWriter], object],
        on_bytes: OnBytes = nobody,
    ) -> StoredObject:
        final = self.local_path(key)
        temporary = final.with_name(f"{final.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        try:
            self._make_durable_folder(final.parent)
            written = _write_durably(temporary, produce, on_bytes)
            # A kill before the rename leaves a temporary name, after it an unrecorded object: both
            # are garbage that nobody believes in.
            temporary.rename(final)
            self._make_sure_of(final, written, on_bytes)
        except OSError as error:
            raise StorageFailed(
                f"Writing {key} failed: {error.strerror or error}. Free some space or repair the store."
            ) from error
        finally:
            _discard(temporary)
        return StoredObject(key, written.size_bytes, written.sha256)

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

    def _make_sure_of(self, final: Path, written: HashingWriter, on_bytes: OnBytes) -> None:
        """Its name is durable and its bytes are right, or it is gone: tries would pile up otherwise."""
        try:
            _sync_folder(final.parent)
            is_right = _xxh3_from_disk(final, on_bytes) == written.xxh3
        except OSError:
            _discard(final)
            raise
        if not is_right:
            _discard(final)
            raise StorageFailed(
                f"{final.name} reads back differently from what was written; the disk may be failing."
            )

    def _make_durable_folder(self, folder: Path) -> None:
        """Sync the names on the way there, too, even of folders that exist: whoever made one may have died,
        or met an error, before its name was on the disk. That lasts until somebody removes the folder."""
        if folder in self._durable_folders and folder.is_dir():
            return
        root = self.root.resolve()
        unsure = [path for path in (folder, *folder.parents) if root in path.parents or not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in unsure:
            _sync_folder(path.parent)
        self._durable_folders.add(folder)

    def free_bytes(self) -> int | None:
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def seems_away(self, key: str) -> bool:
        # A mount point without its file system is an empty folder.
        return not (self.root / key.partition("/")[0]).is_dir()

    def probe(self) -> None:
        key = f"probe-{uuid.uuid4().hex}"
        self.write(key, lambda sink: sink.write(b"probe"))
        try:
            self.local_path(key).unlink()
        except OSError as error:
            raise StorageFailed(
                f"Deleting from the store failed: {error.strerror or error}. Repair the store."
            ) from error


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _write_durably(
    path: Path, produce: Callable[[HashingWriter], object], on_bytes: OnBytes
) -> HashingWriter:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        sink = FileWriter(descriptor, on_bytes)
        sink.fill(produce)
        # After a failed fsync the kernel may have dropped the pages: the file is discarded, never
        # fsynced again.
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return sink


def _xxh3_from_disk(path: Path, on_bytes: OnBytes) -> bytes:
    digest, buffer, size = xxhash.xxh3_128(), bytearray(CHUNK), 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
            on_bytes(size)
    return digest.digest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
