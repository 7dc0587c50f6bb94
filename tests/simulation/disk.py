"""A file system that forgets what was not fsynced, under the real ``LocalStorage``.

A file's bytes are safe once it was fsynced, its name once its folder was. At a power cut each may survive all
the same, or in part, as the seed decides.
"""

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tests.simulation.kernel import Kernel, kernel

FREE_BYTES = 10**9
#: A checkpoint takes somewhat longer than a step, so that training is ahead of what is recorded.
BYTE_SECONDS = 0.001


@dataclass(eq=False)
class File:
    live: bytes = b""
    durable: bytes = b""
    is_poisoned: bool = False  #: an fsync failed: the kernel dropped pages and will never say so again

    def after_power_cut(self, choose: Callable[[list[bytes]], bytes]) -> bytes:
        if self.live == self.durable:
            return self.durable
        half = self.live[: len(self.live) // 2]
        return choose([self.durable, self.durable, half, bytes(len(self.live))])


class Disk:
    """Files by path, as processes see them and as they would be after a power cut."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.names: dict[str, File] = {}
        self.durable_names: dict[str, File] = {}
        self.folders = {"/", "/store"}
        self.durable_folders = {"/", "/store"}
        self.refusing: int | None = None  #: the errno that writes meet for now
        self.refuses_once: int | None = None  #: the errno that the next write, fsync or rename meets
        self.byte_seconds = BYTE_SECONDS
        self.tampered: set[str] = set()  #: damaged on purpose
        self.on_unlink: Callable[[str], object] = lambda path: None
        self._handles: dict[int, tuple[str, File | None]] = {}
        self._next_handle = 3

    # -- System calls ----------------------------------------------------------------------------

    def _at(self, call: str, path: str) -> None:
        self._kernel.pause(call, path)
        refusal, self.refuses_once = self.refuses_once or self.refusing, None
        if refusal is not None and call in {"open", "write", "fsync", "rename", "mkdir"}:
            if call == "fsync" and path in self.names:
                self.names[path].is_poisoned = True
            raise OSError(refusal, os.strerror(refusal))

    def open(self, path: "SimPath", flags: int, mode: int = 0) -> int:
        name = str(path)
        if flags & os.O_CREAT:
            self._at("open", name)
            assert name not in self.names
            self.names[name] = File()
        elif name not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self._next_handle += 1
        self._handles[self._next_handle] = (name, self.names.get(name))
        return self._next_handle

    def write(self, handle: int, data: memoryview) -> int:
        name, file = self._handles[handle]
        assert file is not None
        self._at("write", name)
        self._kernel.sleep(len(data) * self.byte_seconds)
        taken = max(1, len(data) // 2) if self._kernel.random.random() < 0.2 else len(data)
        file.live += bytes(data[:taken])
        return taken

    def fsync(self, handle: int) -> None:
        name, file = self._handles[handle]
        self._at("fsync", name)
        if file is None:
            self._sync_folder(name)
        elif not file.is_poisoned:
            file.durable = file.live

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def rename(self, path: str, target: str) -> None:
        self._at("rename", path)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self.names[target] = self.names.pop(path)

    def unlink(self, path: str) -> None:
        self._at("unlink", path)
        if self.names.pop(path, None) is not None:
            self.on_unlink(path)

    def mkdir(self, path: str) -> None:
        self._at("mkdir", path)
        self.folders.add(path)

    def free(self, _path: object) -> SimpleNamespace:
        return SimpleNamespace(free=0 if self.refusing == errno.ENOSPC else FREE_BYTES)

    def read(self, path: str) -> bytes:
        self._kernel.pause("read", path)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self.names[path].live

    # -- Fate ------------------------------------------------------------------------------------

    def _sync_folder(self, folder: str) -> None:
        for path in [path for path in self.durable_names if _parent(path) == folder]:
            del self.durable_names[path]
        self.durable_names |= {path: file for path, file in self.names.items() if _parent(path) == folder}
        self.durable_folders |= {path for path in self.folders if _parent(path) == folder}

    def cut_power(self) -> None:
        """What comes back: all that is durable, and some of what is not."""
        random = self._kernel.random
        survivors = dict(self.durable_names)
        for path, file in self.names.items():
            if path not in survivors and random.random() < 0.3:
                survivors[path] = file
        self.folders = {path for path in self.durable_folders if _chain(path) <= self.durable_folders}
        self.names = {}
        for path, file in survivors.items():
            if _parent(path) in self.folders:
                content = file.after_power_cut(random.choice)
                self.names[path] = File(content, content)
        self.durable_names = dict(self.names)
        self.durable_folders = set(self.folders)

    def survives(self, path: str) -> str | None:
        """SHA-256 of what would certainly be there after a power cut."""
        file = self.durable_names.get(path)
        if file is None or not _chain(_parent(path)) <= self.durable_folders:
            return None
        return hashlib.sha256(file.durable).hexdigest()

    def tamper(self, path: str) -> None:
        """Bit rot, truncation, or an administrator's mistake."""
        file = self.names.get(path)
        if file is None or path in self.tampered:
            return
        self.tampered.add(path)
        kind = self._kernel.random.choice(["flip", "truncate", "delete"])
        self._kernel.note("tampered", f"{kind} {path}")
        if kind == "delete":
            del self.names[path]
            self.durable_names.pop(path, None)
            return
        place = self._kernel.random.randrange(len(file.live))
        damaged = file.live[:place]
        if kind == "flip":
            damaged += bytes([file.live[place] ^ 1]) + file.live[place + 1 :]
        file.live = file.durable = damaged


class SimPath:
    """As much of ``pathlib.Path`` as a store needs."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path = disk, path

    def __str__(self) -> str:
        return self._path

    def __truediv__(self, part: str) -> "SimPath":
        return SimPath(self._disk, f"{self._path.rstrip('/')}/{part}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimPath) and self._path == other._path

    def __hash__(self) -> int:
        return hash(self._path)

    def __lt__(self, other: "SimPath") -> bool:
        return self._path < other._path

    def resolve(self) -> "SimPath":
        return self

    def is_relative_to(self, other: "SimPath") -> bool:
        return self._path.startswith(f"{other._path}/") or self._path == other._path

    def relative_to(self, other: "SimPath") -> "SimPath":
        return SimPath(self._disk, self._path.removeprefix(f"{other._path}/"))

    def as_posix(self) -> str:
        return self._path

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    @property
    def parent(self) -> "SimPath":
        return SimPath(self._disk, _parent(self._path))

    @property
    def parents(self) -> list["SimPath"]:
        return [] if self._path == "/" else [self.parent, *self.parent.parents]

    def with_name(self, name: str) -> "SimPath":
        return self.parent / name

    def exists(self) -> bool:
        return self._path in self._disk.names or self._path in self._disk.folders

    def is_dir(self) -> bool:
        return self._path in self._disk.folders

    def is_file(self) -> bool:
        return self._path in self._disk.names

    def rglob(self, _pattern: str) -> Iterator["SimPath"]:
        return iter([SimPath(self._disk, p) for p in self._disk.names if p.startswith(f"{self._path}/")])

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
        for folder in reversed([self, *self.parents]):
            if not folder.exists():
                self._disk.mkdir(str(folder))

    def rename(self, target: "SimPath") -> None:
        self._disk.rename(self._path, str(target))

    def unlink(self, *, missing_ok: bool = False) -> None:
        if self.is_file():
            self._disk.unlink(self._path)
        elif not missing_ok:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def open(self, _mode: str, buffering: int = -1) -> io.BytesIO:
        return io.BytesIO(self._disk.read(self._path))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _chain(folder: str) -> set[str]:
    return {folder} if folder == "/" else {folder} | _chain(_parent(folder))


def _disk() -> Disk:
    disk: Any = kernel().disk  # type: ignore[attr-defined]
    return disk


#: ``os`` and ``shutil`` of ``models.storage.local``.
OS = SimpleNamespace(
    O_WRONLY=os.O_WRONLY,
    O_RDONLY=os.O_RDONLY,
    O_CREAT=os.O_CREAT,
    O_EXCL=os.O_EXCL,
    O_DIRECTORY=getattr(os, "O_DIRECTORY", 0),
    open=lambda path, flags, mode=0: _disk().open(path, flags, mode),
    write=lambda handle, data: _disk().write(handle, data),
    fsync=lambda handle: _disk().fsync(handle),
    close=lambda handle: _disk().close(handle),
)
SHUTIL = SimpleNamespace(disk_usage=lambda path: _disk().free(path))
