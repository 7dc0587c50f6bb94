"""Uploading, registering, listing, showing and deleting datasets."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store, uploads
from models.settings import Settings
from tests.archives import flowers, zipped
from tests.unit.api.conftest import FakeWorker
from tests.unit.api.datasets.conftest import FOUND, ZIP

PLAIN = zipped(flowers())


def test_an_upload_is_taken_and_waits_for_its_check(
    client: TestClient, upload: Callable[..., Any], settings: Settings, bell: Any
) -> None:
    response = upload(PLAIN, name="flowers")
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == body["links"]["self"] == f"/datasets/{body['id']}"
    assert body["id"].startswith("ds_") and body["object"] == "dataset"
    assert (body["name"], body["status"], body["source"], body["path"]) == (
        "flowers", "checking", "upload", None,
    )  # fmt: skip
    assert (body["classes"], body["counts"], body["digest"], body["problems"]) == (None, None, None, [])
    assert body["status_reason"].startswith("Waits for a light worker, and none is online")
    assert body["size_bytes"] == len(PLAIN)
    assert (settings.uploads_folder / body["id"] / uploads.ARCHIVE).read_bytes() == PLAIN
    assert not list((settings.uploads_folder / uploads.INCOMING).iterdir())
    assert bell.rings == ["light"]
    assert client.get(response.headers["location"]).json() == body


def test_with_a_light_worker_it_waits_for_that(
    client: TestClient, upload: Callable[..., Any], worker: FakeWorker
) -> None:
    job_store.register_worker(worker.db, worker.owner, device="light", slot="light", threads=1, version="0")
    assert upload(PLAIN).json()["status_reason"] == "Waits for a light worker; others are checked first."


def test_a_light_worker_is_none_for_jobs(
    client: TestClient, submit: Callable[..., Any], worker: FakeWorker
) -> None:
    job_store.register_worker(worker.db, worker.owner, device="light", slot="light", threads=1, version="0")
    assert submit()["status_reason"] == "No worker is online; the job starts as soon as one is."


def test_a_checked_dataset_shows_what_is_in_it(
    client: TestClient, upload: Callable[..., Any], check: Callable[..., Any]
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    assert check() == dataset_id
    body = client.get(f"/datasets/{dataset_id}").json()
    assert body["status"] == "ready" and body["status_reason"] is None and body["checked_at"]
    assert body["digest"] == "ab" * 32 and body["progress"] is None
    for name in ("classes", "counts", "num_images", "image_sizes", "problems"):
        assert body[name] == FOUND[name]


def test_a_failed_one_names_the_files(
    client: TestClient, upload: Callable[..., Any], check: Callable[..., Any]
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    check(error="image file is truncated")
    body = client.get(f"/datasets/{dataset_id}").json()
    assert body["status"] == "failed" and body["status_reason"] == "image file is truncated"
    assert body["error"]["code"] == "dataset_invalid"
    assert body["problems"] == [{"file": "rose/1.png", "message": "image file is truncated"}]


def test_a_folder_of_the_data_root_is_registered(client: TestClient, settings: Settings, bell: Any) -> None:
    response = client.post("/datasets", json={"path": "flowers", "name": "mine"})
    assert response.status_code == 201
    body = response.json()
    assert (body["source"], body["path"], body["name"]) == ("path", "flowers", "mine")
    assert bell.rings == ["light"]
    client.delete(response.headers["location"])
    assert (settings.data_folder / "flowers/daisy/0.jpg").exists(), "its files are not ours to remove"


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "/etc", "nowhere", "..\\x", "%2e%2e%2f", "%252e", "a/..;/b", "．．", "x" * 10_000,
     "flowers\0", "", ".uploads", "flowers/daisy", "flowers/daisy/0.jpg", "out"],
    ids=lambda path: ascii(path)[:30],
)  # fmt: skip
def test_a_hostile_path_is_refused(
    client: TestClient, settings: Settings, leftovers: Any, problem: Callable[..., Any], path: str
) -> None:
    (settings.data_folder / "out").symlink_to("/etc")
    body = problem(client.post("/datasets", json={"path": path}), 422)
    assert body["errors"][0]["field"] == "path"
    assert leftovers() == ([], 0)


def test_the_uploads_of_others_are_not_reached_by_a_path(
    client: TestClient, upload: Callable[..., Any], settings: Settings, problem: Callable[..., Any]
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    folder = settings.uploads_folder / dataset_id / "files.attempt-1"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").touch()
        (folder / name / "2.png").touch()
    (settings.data_folder / "link").symlink_to(folder)
    for path in (f".uploads/{dataset_id}/files.attempt-1", "link"):
        problem(client.post("/datasets", json={"path": path}), 422, "spec_invalid")
        problem(client.post("/jobs", json={"dataset": {"path": path}}), 422)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("text/plain", 415), ("multipart/mixed; boundary=x", 415), ("application/gzip", 415), (None, 415),
     ("application/x-zip-compressed", 202), ("Application/ZIP", 202)],
)  # fmt: skip
def test_content_types(client: TestClient, leftovers: Any, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert client.post("/datasets", content=PLAIN, headers=headers).status_code == status
    assert leftovers()[1] == (status == 202)


@pytest.mark.parametrize(
    "body",
    [{}, {"path": "flowers", "x": 1}, {"path": 3}, {"path": "flowers", "name": "../x"}, [], {"name": "x"},
     {"path": "flowers", "builtin": "mnist"}, {"builtin": "imagenet"}, {"builtin": "../x"}, {"path": None}],
)  # fmt: skip
def test_a_registration_that_cannot_be_meant(
    client: TestClient, leftovers: Any, problem: Callable[..., Any], body: Any
) -> None:
    problem(client.post("/datasets", json=body), 422)
    assert leftovers() == ([], 0)


def test_too_many_bytes_are_refused_when_they_are_announced_and_when_they_come(
    client: TestClient, settings: Settings, leftovers: Any, problem: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(settings, "max_upload_bytes", 100_000)

    def chunked() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(10_000)

    problem(client.post("/datasets", content=bytes(100_001), headers=ZIP), 413, "upload_too_large")
    headers = ZIP | {"Content-Length": "9" * 30}
    problem(client.post("/datasets", content=b"PK", headers=headers), 413, "upload_too_large")
    problem(client.post("/datasets", content=chunked(), headers=ZIP), 413, "upload_too_large")
    assert leftovers() == ([], 0)


def test_what_unpacks_to_too_many_bytes_is_refused(
    upload: Callable[..., Any], settings: Settings, leftovers: Any, problem: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    archive = zipped(flowers() | {"rose/7.png": bytes(100_000)})
    monkeypatch.setattr(settings, "max_upload_bytes", 50_000)
    assert len(archive) < 50_000
    problem(upload(archive), 422, "archive_invalid")
    assert leftovers() == ([], 0)


def test_what_the_disk_has_no_room_for_is_refused_before_it_comes(
    client: TestClient, leftovers: Any, problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 100, 100)  # type: ignore[attr-defined]
    monkeypatch.setattr("api.uploads.shutil.disk_usage", lambda folder: usage)
    body = problem(client.post("/datasets", content=bytes(101), headers=ZIP), 503, "storage_failed")
    assert "PERDURE_UPLOADS_ROOT" in body["detail"] and leftovers() == ([], 0)


def test_a_full_or_read_only_disk_is_told_as_such(
    upload: Callable[..., Any], settings: Settings, problem: Callable[..., Any]
) -> None:
    settings.uploads_folder.write_text("no folder")
    body = problem(upload(PLAIN), 503, "storage_failed")
    assert "PERDURE_UPLOADS_ROOT" in body["detail"]


def test_an_idempotency_key_makes_one_dataset(client: TestClient, leftovers: Any, problem: Any) -> None:
    headers = ZIP | {"Idempotency-Key": "k"}
    first = client.post("/datasets", content=PLAIN, headers=headers)
    again = client.post("/datasets", content=PLAIN, headers=headers)
    assert again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
    problem(client.post("/datasets", content=zipped(flowers(4)), headers=headers), 422)
    files, rows = leftovers()
    assert (len(files), rows) == (1, 1)


def test_lists_are_pages(client: TestClient, upload: Callable[..., Any]) -> None:
    ids = [upload(PLAIN).json()["id"] for _ in range(5)]
    page = client.get("/datasets", params={"limit": 2}).json()
    assert [row["id"] for row in page["data"]] == ids[:2:-1] and page["has_more"]
    rest = client.get("/datasets", params={"after": page["last_id"]}).json()
    assert [row["id"] for row in rest["data"]] == ids[2::-1] and not rest["has_more"]


def test_delete_removes_the_files_of_an_upload(
    client: TestClient, upload: Callable[..., Any], leftovers: Any, problem: Callable[..., Any]
) -> None:
    location = upload(PLAIN).headers["location"]
    response = client.delete(location)
    assert response.status_code == 204 and response.content == b""
    assert leftovers() == ([], 0)
    problem(client.get(location), 404)
    problem(client.delete(location), 404)


@pytest.mark.parametrize("garbage", ["x", "ds_", "ds_%00", "%ff", "ds_" + "a" * 5000, "ds_ä", "job_1", "*"])
def test_garbage_for_an_id_is_not_found(client: TestClient, problem: Any, garbage: str) -> None:
    problem(client.get(f"/datasets/{garbage}"), 404)
    problem(client.delete(f"/datasets/{garbage}"), 404)
    problem(client.get("/datasets", params={"after": "x"}), 422)


# -- Jobs --------------------------------------------------------------------------------------------


def spec(dataset_id: str) -> dict[str, Any]:
    return {"dataset": {"id": dataset_id}, "model": {"weights": None}}


def test_a_job_on_a_ready_dataset(
    client: TestClient, upload: Callable[..., Any], check: Callable[..., Any], problem: Any
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    waiting = client.post("/jobs", json=spec(dataset_id))
    problem(waiting, 409, "dataset_not_ready")
    assert waiting.headers["retry-after"] == "2"
    check()
    response = client.post("/jobs", json=spec(dataset_id))
    assert response.status_code == 201
    job = response.json()
    assert job["spec"]["dataset"] == {"id": dataset_id}
    assert any("fewer training images (of 6)" in warning for warning in job["warnings"])

    problem(client.delete(f"/datasets/{dataset_id}"), 409, "dataset_in_use")
    client.post(f"/jobs/{job['id']}/pause")
    problem(client.delete(f"/datasets/{dataset_id}"), 409, "dataset_in_use")
    client.post(f"/jobs/{job['id']}/cancel")
    assert client.delete(f"/datasets/{dataset_id}").status_code == 204


def test_a_job_on_a_failed_or_unknown_dataset(
    client: TestClient, upload: Callable[..., Any], check: Callable[..., Any], problem: Any, num_jobs: Any
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    check(error="image file is truncated")
    body = problem(client.post("/jobs", json=spec(dataset_id)), 422, "dataset_invalid")
    assert "truncated" in body["detail"] and body["errors"][0]["field"] == "dataset.id"
    for unknown in ("ds_0", "job_1", "", "ds_%00"):
        body = problem(client.post("/jobs", json=spec(unknown)), 422)
        assert body["errors"][0]["field"] == "dataset.id"
    problem(client.post("/jobs", json={"dataset": {}}), 422)
    assert num_jobs() == 0


def test_what_is_wrong_for_good_is_told_before_what_only_takes_time(
    client: TestClient, upload: Callable[..., Any], problem: Any
) -> None:
    dataset_id = upload(PLAIN).json()["id"]
    body = problem(client.post("/jobs", json=spec(dataset_id) | {"model": {"arch": "resnet"}}), 422)
    assert [error["field"] for error in body["errors"]] == ["model.arch"]


# -- Leftovers ---------------------------------------------------------------------------------------


def test_old_files_that_no_row_knows_are_swept(
    upload: Callable[..., Any], settings: Settings, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root: Path = settings.uploads_folder
    dataset_id = upload(PLAIN).json()["id"]
    (root / "ds_gone").mkdir()
    (root / "ds_gone/upload.zip").touch()
    (root / "not ours").mkdir()
    (root / uploads.INCOMING / "ds_half.zip").touch()
    (root / ".builtin/.work/mnist.0").mkdir(parents=True)
    (root / ".builtin/mnist").mkdir()
    assert uploads.sweep(db, root) == [], "somebody may be about to record them"
    monkeypatch.setattr(uploads, "GRACE_SECONDS", -10.0)
    assert sorted(uploads.sweep(db, root)) == ["ds_gone", "ds_half.zip", "mnist.0"]
    kept = [".builtin", uploads.INCOMING, dataset_id, "not ours"]
    assert sorted(path.name for path in root.iterdir()) == sorted(kept)
    assert (root / ".builtin/mnist").is_dir()
