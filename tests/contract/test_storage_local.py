"""What a folder promises beyond every store: the order of fsyncs, disks that fail or fill up, links."""

import errno
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.errors import StorageFailed
from models.storage import HashingWriter, LocalStorage, Storage, StoredObject
from models.storage import local as storage_module

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "a" / "store")


def put(store: Storage, key: str, content: bytes = CONTENT) -> StoredObject:
    return store.write(key, lambda sink: sink.write(content))


def files(store: LocalStorage) -> list[str]:
    return sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*") if p.is_file())


# -- Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "rename", "write", "open"])
def test_a_disk_that_fails_leaves_nothing_and_harms_nothing(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """EIO anywhere on the way: typed, and the file is discarded, never fsynced again (fault 20)."""
    put(store, "old", b"the one before")
    fsynced: list[int] = []

    def broken(*args: object, **kwargs: object) -> None:
        fsynced.append(1)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        if call == "rename":
            patch.setattr(Path, "rename", broken)
        else:
            patch.setattr(storage_module.os, call, broken)
        with pytest.raises(StorageFailed, match="Input/output error"):
            put(store, "new")
    assert len(fsynced) == 1, "once is enough"
    assert files(store) == ["old"]
    assert put(store, "new").size_bytes == len(CONTENT)


def test_what_the_disk_said_outlives_the_error_that_a_producer_makes_of_it(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch.save does: a full disk is "unexpected pos 64 vs 0" in its words, which nobody would retry."""
    monkeypatch.setattr(
        storage_module.os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space"))
    )

    def produce(sink: HashingWriter) -> None:
        try:
            sink.write(CONTENT)
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None

    with pytest.raises(StorageFailed, match="No space"):
        store.write("k", produce)
    assert files(store) == []


def test_a_short_write_is_gone_on_with(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(storage_module.os, "write", lambda fd, data: real(fd, data[:7]))
    stored = put(store, "k", CONTENT[:1000])
    assert store.local_path("k").read_bytes() == CONTENT[:1000]
    assert stored.sha256 == hashlib.sha256(CONTENT[:1000]).hexdigest()


def test_a_folder_that_was_removed_is_made_again(store: LocalStorage) -> None:
    put(store, "jobs/1/a")
    shutil.rmtree(store.local_path("jobs"))
    put(store, "jobs/1/b")
    assert files(store) == ["jobs/1/b"]


def test_what_reads_back_differently_is_refused(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = storage_module._xxh3_from_disk

    def flipped(path: Path, on_bytes: Callable[[int], object]) -> bytes:
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)
        return real(path, on_bytes)

    monkeypatch.setattr(storage_module, "_xxh3_from_disk", flipped)
    with pytest.raises(StorageFailed, match="reads back differently"):
        put(store, "k")
    assert files(store) == [], "tries again would fill the disk"


def test_bytes_and_names_are_made_durable_in_order(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, name, folder: a rename that overtakes its bytes leaves an empty file after a power cut."""
    told: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(descriptor: int) -> None:
        told.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name.partition('.')[0]}")
        fsync(descriptor)

    def noting_rename(self: Path, target: Path) -> Path:
        told.append(f"rename {target.name}")
        return rename(self, target)

    monkeypatch.setattr(storage_module.os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    put(store, "jobs/j/k")
    assert told[-3:] == ["fsync k", "rename k", "fsync j"]
    assert {"fsync a", "fsync store", "fsync jobs"} <= set(told[:-3]), "new folders are in their parents"
    told.clear()
    put(store, "jobs/j/k2")
    assert told == ["fsync k2", "rename k2", "fsync j"]


def test_folders_whose_names_may_not_be_durable_are_synced_again(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made a folder may have been killed, or refused, before its name was on the disk."""
    (store.root / "jobs" / "j").mkdir(parents=True)
    told: list[str] = []
    fsync = os.fsync

    def noting_fsync(descriptor: int) -> None:
        told.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition(".")[0])
        fsync(descriptor)

    monkeypatch.setattr(storage_module.os, "fsync", noting_fsync)
    put(store, "jobs/j/k")
    assert {"store", "jobs"} <= set(told)


# -- Full disks --------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """One megabyte: a file system of its own where we may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(tiny_disk: Path) -> None:
    store = LocalStorage(tiny_disk)
    put(store, "old", b"x" * 500_000)
    for size in (600_000, 2_000_000):
        with pytest.raises(StorageFailed, match="No space left"):
            put(store, "new", b"y" * size)
        assert files(store) == ["old"], "the half-written file is gone, and its space with it"
    assert store.local_path("old").read_bytes() == b"x" * 500_000
    store.delete("old")
    put(store, "new", b"y" * 600_000)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from models.errors import StorageFailed
from models.storage import LocalStorage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LocalStorage(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    store.write("new", lambda sink: [sink.write(b"y" * 1000) for _ in range(200)])
except StorageFailed as error:
    print(error.message)
"""


def test_a_quota_is_like_a_full_disk(store: LocalStorage) -> None:
    """The limit of a process stands for it: EFBIG in the middle of a write, without root."""
    assert resource.RLIMIT_FSIZE
    put(store, "old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.root)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.startswith("Writing new failed: File too large.")
    assert files(store) == ["old"]


# -- Links -------------------------------------------------------------------------------------------


def test_a_link_does_not_lead_out_either(store: LocalStorage, tmp_path: Path) -> None:
    put(store, "a/inside")
    (store.root / "link").symlink_to(tmp_path)
    for action in (
        lambda: put(store, "link/x"),
        lambda: store.open("link/x"),
        lambda: store.delete("link/x"),
    ):
        with pytest.raises(ValueError, match="out of the store"):
            action()


def test_a_store_may_itself_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = LocalStorage(tmp_path / "link")
    put(store, "jobs/k")
    assert list(store.keys("jobs")) == ["jobs/k"]
    assert (tmp_path / "real/jobs/k").exists()
