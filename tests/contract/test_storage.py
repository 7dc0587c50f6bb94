"""What every checkpoint store promises: whole, durable, verified objects, and no halves under a name."""

import array
import errno
import hashlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import storage as storage_module
from models.errors import SpecInvalid, StorageFailed
from models.storage import HashingWriter, LocalStorage, Storage, storage_from_url

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "a" / "store")


def put(store: Storage, key: str, content: bytes = CONTENT) -> storage_module.StoredObject:
    return store.write(key, lambda sink: sink.write(content))


def files(store: LocalStorage) -> list[str]:
    return sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*") if p.is_file())


# -- Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", CONTENT, os.urandom(9_000_001)], ids=len)
def test_what_was_written_is_there_whole(store: LocalStorage, content: bytes) -> None:
    stored = put(store, "jobs/j/checkpoints/c.pth", content)
    assert stored.key == "jobs/j/checkpoints/c.pth"
    assert (stored.size_bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with store.open(stored.key) as stream:
        assert stream.read() == content
    assert store.local_path(stored.key).read_bytes() == content
    assert files(store) == [stored.key], "no temporary name is left"


def test_any_buffer_is_taken(store: LocalStorage) -> None:
    numbers = array.array("d", [1.0, 2.0, 3.0])

    def produce(sink: HashingWriter) -> None:
        assert sink.write(memoryview(numbers)) == 24  # type: ignore[arg-type]
        assert sink.write(bytearray(b"end")) == 3
        sink.flush()

    stored = store.write("k", produce)
    assert store.local_path("k").read_bytes() == numbers.tobytes() + b"end"
    assert stored.size_bytes == 27


def test_progress_counts_bytes_written_and_then_verified(store: LocalStorage) -> None:
    told: list[int] = []
    store.write("k", lambda sink: [sink.write(CONTENT) for _ in range(3)], told.append)
    size = 3 * len(CONTENT)
    assert told == [len(CONTENT), 2 * len(CONTENT), size, size]


def test_until_it_is_whole_nothing_has_the_name(store: LocalStorage) -> None:
    def produce(sink: HashingWriter) -> None:
        sink.write(CONTENT)
        assert not store.local_path("k").exists()
        assert len(list(store.keys(""))) == 1, "leftovers of unfinished writes can be listed, to be swept"

    store.write("k", produce)


class Interrupted(Exception):
    """An error of the producer's own."""


def test_a_producer_that_fails_leaves_nothing(store: LocalStorage) -> None:
    def produce(sink: HashingWriter) -> None:
        sink.write(CONTENT)
        raise Interrupted

    with pytest.raises(Interrupted):
        store.write("k", produce)
    assert files(store) == []


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


def test_a_short_write_is_gone_on_with(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(storage_module.os, "write", lambda fd, data: real(fd, data[:7]))
    stored = put(store, "k", CONTENT[:1000])
    assert store.local_path("k").read_bytes() == CONTENT[:1000]
    assert stored.sha256 == hashlib.sha256(CONTENT[:1000]).hexdigest()


def test_what_reads_back_differently_is_refused(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = storage_module._hash_from_disk

    def flipped(path: Path, on_bytes: Callable[[int], object]) -> str:
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)
        return real(path, on_bytes)

    monkeypatch.setattr(storage_module, "_hash_from_disk", flipped)
    with pytest.raises(StorageFailed, match="reads back differently"):
        put(store, "k")


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


def test_many_writers_at_once(store: LocalStorage) -> None:
    threads = [
        threading.Thread(target=put, args=(store, f"jobs/{n % 3}/k{n}", bytes([n]) * 10_000))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(store)) == 16
    for n in range(16):
        assert store.local_path(f"jobs/{n % 3}/k{n}").read_bytes() == bytes([n]) * 10_000


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


KILLED = """
import os, signal, sys
from pathlib import Path
from models.storage import LocalStorage
def produce(sink):
    sink.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
LocalStorage(Path(sys.argv[1])).write("jobs/j/new", produce)
"""


def test_a_kill_in_mid_write_leaves_only_what_is_known_as_garbage(store: LocalStorage) -> None:
    put(store, "jobs/j/old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.root)], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -9
    old, left = sorted(store.keys("jobs/j"), key=len)
    assert old == "jobs/j/old"
    assert left.startswith("jobs/j/new.") and left.endswith(storage_module.TEMPORARY)


# -- Reading, listing, deleting ----------------------------------------------------------------------


def test_an_object_that_is_not_there(store: LocalStorage) -> None:
    with pytest.raises(FileNotFoundError):
        store.open("jobs/j/none")


def test_deleting_twice_is_no_error(store: LocalStorage) -> None:
    put(store, "jobs/j/k")
    for _ in range(2):
        store.delete("jobs/j/k")
    store.delete("never/was/there")
    assert files(store) == []


def test_deleting_one_leaves_its_neighbours(store: LocalStorage) -> None:
    for key in ("jobs/j/k1", "jobs/j/k2", "jobs/jj/k1"):
        put(store, key)
    store.delete("jobs/j/k1")
    assert files(store) == ["jobs/j/k2", "jobs/jj/k1"]


def test_keys_below_a_prefix(store: LocalStorage) -> None:
    for key in ("jobs/a/2", "jobs/a/1", "jobs/a/deep/er", "jobs/ab/1", "other"):
        put(store, key)
    assert list(store.keys("jobs/a")) == ["jobs/a/1", "jobs/a/2", "jobs/a/deep/er"]
    assert len(list(store.keys(""))) == 5
    assert list(store.keys("none")) == []


ESCAPES = ["../out", "a/../../out", "/etc/passwd", "..", "a/../..", "jobs/../../store2/x"]


@pytest.mark.parametrize("key", ESCAPES)
@pytest.mark.parametrize("operation", ["write", "open", "delete", "local_path", "keys"])
def test_no_key_leads_out_of_the_store(store: LocalStorage, key: str, operation: str) -> None:
    put(store, "a/inside")
    outside = store.root.parent / "out"
    outside.write_bytes(b"private")
    actions: dict[str, Callable[[], object]] = {
        "write": lambda: put(store, key),
        "open": lambda: store.open(key),
        "delete": lambda: store.delete(key),
        "local_path": lambda: store.local_path(key),
        "keys": lambda: list(store.keys(key)),
    }
    with pytest.raises(ValueError, match="out of the store"):
        actions[operation]()
    assert outside.read_bytes() == b"private"
    assert files(store) == ["a/inside"]


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


def test_stores_by_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space, ünd 100%"
    store = storage_from_url(folder.as_uri())
    assert isinstance(store, LocalStorage) and store.root == folder
    for url in ("s3://bucket/x", "http://host/x", "file://host/path", "relative", ""):
        with pytest.raises(SpecInvalid):
            storage_from_url(url)
