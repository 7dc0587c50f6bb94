"""What every checkpoint store promises: whole, durable, verified objects, and no halves under a name."""

import array
import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import SpecInvalid
from models.storage import (
    TEMPORARY,
    HashingWriter,
    LocalStorage,
    S3Storage,
    Storage,
    StoredObject,
    storage_from_url,
)
from tests.servers.s3 import S3Server

CONTENT = bytes(range(256)) * 100
#: More than one part of a multipart upload.
LARGE = os.urandom(9_000_001)


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return (tmp_path / "a" / "store").as_uri()
    server: S3Server = request.getfixturevalue("shared_s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.create_bucket()}/a/store"


@pytest.fixture
def store(url: str) -> Storage:
    return storage_from_url(url)


def put(store: Storage, key: str, content: bytes = CONTENT) -> StoredObject:
    return store.write(key, lambda sink: sink.write(content))


def get(store: Storage, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


def everything(store: Storage) -> list[str]:
    return sorted(store.keys(""))


# -- Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", CONTENT, LARGE, bytes(16 * 2**20)], ids=len)
def test_what_was_written_is_there_whole(store: Storage, content: bytes) -> None:
    stored = put(store, "jobs/j/checkpoints/c.pth", content)
    assert stored.key == "jobs/j/checkpoints/c.pth"
    assert (stored.size_bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert get(store, stored.key) == content
    assert everything(store) == [stored.key], "no temporary name is left"


def test_any_buffer_is_taken(store: Storage) -> None:
    numbers = array.array("d", [1.0, 2.0, 3.0])

    def produce(sink: HashingWriter) -> None:
        assert sink.write(memoryview(numbers)) == 24  # type: ignore[arg-type]
        assert sink.write(bytearray(b"end")) == 3
        sink.flush()

    assert store.write("k", produce).size_bytes == 27
    assert get(store, "k") == numbers.tobytes() + b"end"


def test_a_buffer_may_be_used_again_after_the_write(store: Storage) -> None:
    def produce(sink: HashingWriter) -> None:
        buffer = bytearray(b"first")
        sink.write(buffer)
        buffer[:] = b"later"

    store.write("k", produce)
    assert get(store, "k") == b"first"


def test_progress_counts_bytes_written_and_then_verified(store: Storage) -> None:
    told: list[int] = []
    store.write("k", lambda sink: [sink.write(LARGE) for _ in range(3)], told.append)
    size = 3 * len(LARGE)
    written = told[: told.index(size) + 1]
    assert len(written) >= 3 and written == sorted(written), "it moves on the way"
    assert told[-1] == size and len(told) > len(written), "verified, too"


def test_until_it_is_whole_nothing_has_the_name(store: Storage) -> None:
    def produce(sink: HashingWriter) -> None:
        sink.write(LARGE)
        with pytest.raises(FileNotFoundError):
            store.open("jobs/a.attempt-2.k")
        [left] = store.keys("")
        assert left.startswith("jobs/a.attempt-2.k.") and left.endswith(TEMPORARY), "what to sweep is listed"

    store.write("jobs/a.attempt-2.k", produce)
    assert everything(store) == ["jobs/a.attempt-2.k"]


class Interrupted(Exception):
    """An error of the producer's own."""


def test_a_producer_that_fails_leaves_nothing(store: Storage) -> None:
    def produce(sink: HashingWriter) -> None:
        sink.write(LARGE)
        raise Interrupted

    with pytest.raises(Interrupted):
        store.write("k", produce)
    assert everything(store) == []


def test_many_writers_at_once(store: Storage) -> None:
    threads = [
        threading.Thread(target=put, args=(store, f"jobs/{n % 3}/k{n}", bytes([n]) * 10_000))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(everything(store)) == 16
    for n in range(16):
        assert get(store, f"jobs/{n % 3}/k{n}") == bytes([n]) * 10_000


KILLED = """
import os, signal, sys
from models.storage import storage_from_url
def produce(sink):
    sink.write(bytes(9_000_000))
    os.kill(os.getpid(), signal.SIGKILL)
storage_from_url(sys.argv[1]).write("jobs/j/c.step-7.attempt-3.new", produce)
"""


def test_a_kill_in_mid_write_leaves_only_what_is_known_as_garbage(store: Storage, url: str) -> None:
    """Fault 22, and its like on disks: no object, and a leftover that can be told, and swept."""
    put(store, "jobs/j/old")
    done = subprocess.run([sys.executable, "-c", KILLED, url], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    with pytest.raises(FileNotFoundError):
        store.open("jobs/j/c.step-7.attempt-3.new")
    old, left = sorted(store.keys("jobs/j"), key=len)
    assert old == "jobs/j/old"
    assert left.startswith("jobs/j/c.step-7.attempt-3.new.") and left.endswith(TEMPORARY)
    for _ in range(2):
        store.delete(left)
    assert everything(store) == ["jobs/j/old"]


def test_a_probe_leaves_nothing(store: Storage) -> None:
    store.probe()
    assert everything(store) == []


# -- Reading, listing, deleting ----------------------------------------------------------------------


def test_any_part_can_be_read(store: Storage) -> None:
    put(store, "k", LARGE)
    with store.open("k") as stream:
        assert stream.seek(0, io.SEEK_END) == len(LARGE)
        assert stream.read(10) == b""
        for start, size in ((8_999_990, 100), (0, 5), (3_000_000, 2_000_000), (4_999_999, 3), (100, 0)):
            assert stream.seek(start) == start
            assert stream.read(size) == LARGE[start : start + size]
            assert stream.tell() == min(start + size, len(LARGE))
        stream.seek(-7, io.SEEK_END)
        assert stream.read() == LARGE[-7:]


def test_an_object_that_is_not_there(store: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        store.open("jobs/j/none")
    put(store, "jobs/k/some")
    assert not store.seems_away("jobs/j/none"), "others are there"


def test_deleting_twice_is_no_error(store: Storage) -> None:
    put(store, "jobs/j/k")
    for _ in range(2):
        store.delete("jobs/j/k")
    store.delete("never/was/there")
    store.delete(f"never/was/there.1234abcd{TEMPORARY}")
    assert everything(store) == []


def test_deleting_one_leaves_its_neighbours(store: Storage) -> None:
    for key in ("jobs/j/k1", "jobs/j/k2", "jobs/jj/k1"):
        put(store, key)
    store.delete("jobs/j/k1")
    assert everything(store) == ["jobs/j/k2", "jobs/jj/k1"]


def test_keys_below_a_prefix(store: Storage) -> None:
    for key in ("jobs/a/2", "jobs/a/1", "jobs/a/deep/er", "jobs/ab/1", "other"):
        put(store, key)
    assert list(store.keys("jobs/a")) == ["jobs/a/1", "jobs/a/2", "jobs/a/deep/er"]
    assert len(list(store.keys(""))) == 5
    assert list(store.keys("none")) == []


ESCAPES = ["../out", "a/../../out", "/etc/passwd", "..", "a/../..", "jobs/../../store2/x"]


@pytest.mark.parametrize("key", ESCAPES)
@pytest.mark.parametrize("operation", ["write", "open", "delete", "keys"])
def test_no_key_leads_out_of_the_store(store: Storage, key: str, operation: str) -> None:
    put(store, "a/inside")
    actions: dict[str, Callable[[], object]] = {
        "write": lambda: put(store, key),
        "open": lambda: store.open(key),
        "delete": lambda: store.delete(key),
        "keys": lambda: list(store.keys(key)),
    }
    with pytest.raises(ValueError, match="out of the store"):
        actions[operation]()
    assert everything(store) == ["a/inside"]


# -- Which store it is -------------------------------------------------------------------------------


def test_stores_by_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space, ünd 100%"
    store = storage_from_url(folder.as_uri())
    assert isinstance(store, LocalStorage) and store.root == folder
    for url, prefix in (("s3://bucket/x/y/", "x/y"), ("s3://bucket", ""), ("s3://bucket/", "")):
        store = storage_from_url(url)
        assert isinstance(store, S3Storage) and (store.bucket, store.prefix) == ("bucket", prefix)
    for url in ("s3:///no/bucket", "http://host/x", "file://host/path", "relative", ""):
        with pytest.raises(SpecInvalid, match="must look like"):
            storage_from_url(url)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.storage.find_spec", lambda name: None)
    with pytest.raises(SpecInvalid, match=r"pip install 'perdure\[s3\]'"):
        storage_from_url("s3://bucket/x")


QUIET = """
import os, sys
from models.storage import storage_from_url
store = storage_from_url("s3://bucket/x")
assert "botocore" not in sys.modules, "a light process stays light"
import boto3.session
store._client
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_boto3_starts_no_thread_that_a_fork_would_lose() -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "1\n"
