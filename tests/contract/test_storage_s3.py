"""What a bucket promises beyond every store: what a network can do to an upload, and to a download."""

import io
import os
import time
from collections.abc import Callable

import pytest

from models.errors import StorageFailed
from models.job_store import RecordedFiles
from models.storage import TEMPORARY, HashingWriter, S3Storage, StoredObject
from tests.servers.s3 import S3Server
from worker.sweep import sweep

SMALL, LARGE = b"small" * 100, os.urandom(17_000_000)
both_ways = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["put", "multipart"])


@pytest.fixture
def shared(shared_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """For faults that pass; those that stay have a server of their own."""
    for name, value in shared_s3.environment.items():
        monkeypatch.setenv(name, value)
    return shared_s3


@pytest.fixture
def store(shared: S3Server) -> S3Storage:
    return shared.store()


def put(store: S3Storage, key: str, content: bytes) -> StoredObject:
    return store.write(key, lambda sink: sink.write(content))


def get(store: S3Storage, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


# -- Writing -----------------------------------------------------------------------------------------


@both_ways
def test_what_is_there_is_never_overwritten(store: S3Storage, content: bytes) -> None:
    put(store, "k", b"the first")
    with pytest.raises(StorageFailed, match="never overwritten"):
        put(store, "k", content)
    assert get(store, "k") == b"the first"
    assert list(store.keys("")) == ["k"]


@both_ways
def test_a_part_that_arrives_damaged_is_refused(shared: S3Server, store: S3Storage, content: bytes) -> None:
    shared.arm("corrupt")
    with pytest.raises(StorageFailed, match="arrived damaged"):
        put(store, "k", content)
    assert list(store.keys("")) == []
    put(store, "k", content)


def test_damage_that_no_part_showed_is_found_in_the_end(shared: S3Server, store: S3Storage) -> None:
    shared.arm("corrupt-unseen")
    with pytest.raises(StorageFailed, match="reads back differently"):
        put(store, "k", LARGE)
    assert list(store.keys("")) == []


@both_ways
def test_without_checksums_of_the_store_the_bytes_come_back_to_be_compared(
    s3_server: S3Server, content: bytes
) -> None:
    store = s3_server.store()
    s3_server.arm("no-checksums")
    put(store, "good", content)
    s3_server.arm("corrupt-unseen")
    with pytest.raises(StorageFailed, match="reads back differently"):
        put(store, "bad", content)
    assert list(store.keys("")) == ["good"]


@both_ways
def test_a_lost_reply_is_no_lost_object(shared: S3Server, store: S3Storage, content: bytes) -> None:
    """The request was granted and nobody heard: its retry finds the name taken, by ourselves."""
    shared.arm("deaf")
    put(store, "k", content)
    assert get(store, "k") == content
    assert list(store.keys("")) == ["k"]


def test_a_server_that_is_gone_is_told_in_time(s3_server: S3Server) -> None:
    store = s3_server.store()
    put(store, "k", SMALL)
    reading = store.open("k")
    actions: list[Callable[[], object]] = [
        lambda: put(store, "new", SMALL),
        lambda: put(store, "new", LARGE),
        lambda: store.open("k"),
        lambda: list(store.keys("")),
        lambda: store.delete("k"),
        store.probe,
        lambda: (reading.seek(0), reading.read()),
    ]
    s3_server.kill()
    for action in actions[:-1]:
        began = time.monotonic()
        with pytest.raises(StorageFailed, match="endpoint is up and reachable"):
            action()
        assert time.monotonic() - began < 20


def test_a_server_that_goes_in_mid_upload_is_a_store_that_failed(s3_server: S3Server) -> None:
    """Also where the producer makes an error of its own of it, as torch.save does."""
    store = s3_server.store()

    def produce(sink: HashingWriter) -> None:
        sink.write(LARGE)
        s3_server.kill()
        try:
            sink.write(LARGE)
        except Exception:  # noqa: BLE001
            raise RuntimeError("unexpected pos") from None

    with pytest.raises(StorageFailed, match="endpoint is up and reachable"):
        store.write("k", produce)


def test_a_store_that_hangs_holds_up_a_probe_for_seconds_only(s3_server: S3Server) -> None:
    store = s3_server.store()
    s3_server.arm("hang")
    began = time.monotonic()
    with pytest.raises(StorageFailed):
        store.probe()
    assert time.monotonic() - began < 5


def test_a_bucket_that_is_missing_is_no_missing_object(shared: S3Server) -> None:
    """Else every checkpoint of a job would be given up for a typing error in a setting."""
    store = S3Storage("no-such-bucket")
    for action in (lambda: put(store, "k", SMALL), lambda: store.open("k"), lambda: list(store.keys(""))):
        with pytest.raises(StorageFailed, match="Create it, or correct PERDURE_STORAGE_URL"):
            action()


# -- Sweeping ----------------------------------------------------------------------------------------


def test_unfinished_uploads_are_swept_by_attempt_and_step(store: S3Storage) -> None:
    folder = f"{store.prefix}/jobs/j/checkpoints"
    for step, attempt in ((7, 1), (9, 1), (7, 2)):
        key = f"{folder}/epoch-0001.step-{step:06d}.attempt-{attempt}.ckpt_x.pth"
        store._client.create_multipart_upload(Bucket=store.bucket, Key=key)
    recorded = RecordedFiles(frozenset(), committed_step=8)
    swept = sweep(store, "j", recorded, before_attempt=2)
    assert len(swept) == 1
    assert swept[0].startswith("jobs/j/checkpoints/epoch-0001.step-000007.attempt-1.ckpt_x.pth.")
    assert len(list(store.keys(""))) == 2


def test_ids_of_uploads_may_hold_anything() -> None:
    from models.storage.s3 import _leftover, _unfinished  # noqa: PLC0415

    for upload_id in ("a.b..c-_~", "x/y", "2~ü%", "id.attempt-9.partial"):
        key = _leftover("jobs/j.k", upload_id)
        assert key.endswith(TEMPORARY) and _unfinished(key) == ("jobs/j.k", upload_id)
        assert ".attempt-9." not in key, "no id passes for part of a name"
    assert _unfinished("jobs/j.pth") is None


# -- Reading and listing -----------------------------------------------------------------------------


@both_ways
def test_a_download_that_breaks_off_is_gone_on_with(
    shared: S3Server, store: S3Storage, content: bytes
) -> None:
    put(store, "k", content)
    shared.arm("cut")
    assert get(store, "k") == content


def test_reading_from_front_to_back_is_one_request(store: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "k", LARGE)
    asked: list[object] = []
    store._client.meta.events.register("before-send.s3.GetObject", lambda request, **_: asked.append(request))
    with store.open("k") as stream:
        stream.seek(0, io.SEEK_END)
        stream.seek(0)
        assert b"".join(iter(lambda: stream.read(1_000_000), b"")) == LARGE
    assert len(asked) == 1


def test_lists_of_any_length(store: S3Storage) -> None:
    pages = store._client.meta.events
    pages.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 3})
    for number in range(10):
        put(store, f"many/{number}", SMALL)
    assert [*store.keys("many")] == [f"many/{number}" for number in range(10)]


def test_an_empty_prefix_is_the_whole_bucket(shared: S3Server) -> None:
    store = shared.store(prefix="")
    put(store, "a/b", SMALL)
    assert list(store.keys("")) == ["a/b"] == list(store.keys("a"))
    assert get(store, "a/b") == SMALL
