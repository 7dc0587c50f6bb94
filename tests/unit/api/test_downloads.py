"""Checkpoints and models as files: whole, in ranges, and when they are gone."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.answers import Preprocessing
from api.whole_files import WholeFiles
from models.database import Database
from models.settings import Settings
from models.tables import checkpoints
from tests.unit.api.children import Children


@pytest.fixture
def job_id(submit: Callable[..., Any], worker: Any) -> str:
    submit()
    job_id: str = worker.run()
    return job_id


@pytest.fixture
def rows(client: TestClient, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/jobs/{job_id}/checkpoints").json()["data"]
    return found


@pytest.fixture
def url(job_id: str, rows: list[dict[str, Any]]) -> str:
    return f"/jobs/{job_id}/checkpoints/{rows[0]['id']}/content"


@pytest.fixture(autouse=True)
def _with_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What packs models does as it is told, without torch."""
    folder = tmp_path / "children"
    folder.mkdir()

    def make(cache: Path, storage_url: str) -> WholeFiles:
        return WholeFiles(cache, storage_url, materialising=Children(folder).materialising())

    monkeypatch.setattr("api.app.WholeFiles", make)


def test_a_whole_checkpoint(client: TestClient, url: str, rows: list[dict[str, Any]]) -> None:
    response = client.get(url)
    assert response.status_code == 200
    digest = hashlib.sha256(response.content)
    assert digest.hexdigest() == rows[0]["sha256"]
    assert response.headers["etag"] == f'"{rows[0]["sha256"]}"'
    assert response.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert response.headers["content-length"] == str(rows[0]["size_bytes"])
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-disposition"].endswith('.pth"')


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=990-", 990, 999), ("bytes=-10", 990, 999),
        ("bytes=500-5000", 500, 999), ("bytes=-5000", 0, 999), ("bytes=0-", 0, 999),
    ],
)  # fmt: skip
def test_a_range(client: TestClient, url: str, header: str, first: int, last: int) -> None:
    whole = client.get(url).content
    response = client.get(url, headers={"Range": header})
    assert response.status_code == 206
    assert response.content == whole[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/1000"
    assert response.headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end(
    client: TestClient, url: str, problem: Callable[..., Any], header: str
) -> None:
    response = client.get(url, headers={"Range": header})
    problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join("0-1" for _ in range(10_000)), "bytes=0-1,3-4", "bytes=-", "bytes=x-y",
        "lines=0-1",        "bytes=9-2", "", "bytes=" + "9" * 100 + "-",
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_ignored_cheaply(client: TestClient, url: str, header: str) -> None:
    began = time.monotonic()
    response = client.get(url, headers={"Range": header})
    assert response.status_code == 200 and len(response.content) == 1000
    assert time.monotonic() - began < 1.0


def test_conditions(client: TestClient, url: str) -> None:
    etag = client.get(url).headers["etag"]
    unchanged = client.get(url, headers={"If-None-Match": etag})
    assert unchanged.status_code == 304 and unchanged.content == b""
    assert client.get(url, headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    assert client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"old"'}).status_code == 200


def test_a_pruned_checkpoint_is_gone(
    client: TestClient, job_id: str, rows: list[dict[str, Any]], problem: Callable[..., Any]
) -> None:
    assert rows[-1]["status"] == "pruned"
    problem(client.get(f"/jobs/{job_id}/checkpoints/{rows[-1]['id']}/content"), 410, "content_gone")
    problem(client.get(f"/jobs/{job_id}/model/content?checkpoint={rows[-1]['id']}"), 409, "wrong_state")


def test_a_quarantined_checkpoint_is_gone(
    client: TestClient,
    db: Database,
    url: str,
    job_id: str,
    rows: list[dict[str, Any]],
    problem: Callable[..., Any],
) -> None:
    with db.writing() as tx:
        tx.execute(update(checkpoints).where(checkpoints.c.id == rows[0]["id"]).values(status="quarantined"))
    problem(client.get(url), 410, "content_gone")
    assert client.get(f"/jobs/{job_id}/model").json()["checkpoint"]["id"] == rows[1]["id"]
    problem(client.get(f"/jobs/{job_id}/model?checkpoint={rows[0]['id']}"), 409)


def test_a_file_that_vanished_is_gone(
    client: TestClient,
    settings: Settings,
    job_id: str,
    url: str,
    rows: list[dict[str, Any]],
    problem: Callable[..., Any],
) -> None:
    (Path(settings.storage_url.removeprefix("file://")) / rows[0]["path"]).unlink()
    problem(client.get(url), 410, "content_gone")
    problem(client.get(f"/jobs/{job_id}/checkpoints/last/content"), 410, "content_gone")


def test_a_checkpoint_of_another_job_is_not_found(
    client: TestClient, submit: Callable[..., Any], rows: list[dict[str, Any]], problem: Callable[..., Any]
) -> None:
    other = submit()["id"]
    problem(client.get(f"/jobs/{other}/checkpoints/{rows[0]['id']}/content"), 404)
    problem(client.get(f"/jobs/{other}/model/content?checkpoint={rows[0]['id']}"), 404)


def test_the_model_is_the_last_checkpoint(
    client: TestClient, job_id: str, rows: list[dict[str, Any]]
) -> None:
    manifest = client.get(f"/jobs/{job_id}/model").json()
    assert manifest["checkpoint"]["id"] == rows[0]["id"]
    assert manifest["classes"] == ["daisy", "rose", "tulip"]
    assert manifest["arch"] == "efficientnet_b1" and manifest["image_size"] == 240
    assert manifest["dropout"] == 0.3 and manifest["weights_sha256"] == "ab" * 32
    checkpoint = client.get(manifest["links"]["checkpoint"])
    assert hashlib.sha256(checkpoint.content).hexdigest() == rows[0]["sha256"]
    assert client.get(f"/jobs/{job_id}/checkpoints/last/content").content == checkpoint.content


def test_the_model_is_a_zip_of_that_checkpoint(
    client: TestClient, job_id: str, rows: list[dict[str, Any]]
) -> None:
    checkpoint = client.get(f"/jobs/{job_id}/checkpoints/last/content").content
    model = client.get(f"/jobs/{job_id}/model/content")
    assert model.content == checkpoint + json.dumps(["model", job_id, rows[0]["id"]]).encode()
    assert model.headers["content-type"] == "application/zip"
    assert model.headers["content-disposition"].endswith(f'{job_id}-{rows[0]["id"]}.zip"')
    etag = f'"{hashlib.sha256(model.content).hexdigest()}"'
    assert model.headers["etag"] == etag
    part = client.get(f"/jobs/{job_id}/model/content", headers={"Range": "bytes=990-1009", "If-Range": etag})
    assert part.status_code == 206 and part.content == model.content[990:1010]
    again = client.get(f"/jobs/{job_id}/model/content", headers={"If-None-Match": etag})
    assert again.status_code == 304


def test_the_model_as_onnx_is_another_file(
    client: TestClient, job_id: str, rows: list[dict[str, Any]], problem: Any
) -> None:
    packed = client.get(f"/jobs/{job_id}/model/content")
    model = client.get(f"/jobs/{job_id}/model/content?format=onnx")
    assert model.content.endswith(json.dumps(["onnx", job_id, rows[0]["id"]]).encode())
    assert model.headers["content-disposition"].endswith(f'{job_id}-{rows[0]["id"]}.onnx"')
    assert model.headers["content-type"] == "application/octet-stream"
    again = client.get(f"/jobs/{job_id}/model/content?format=zip")
    assert again.content == packed.content and again.headers["etag"] != model.headers["etag"]
    problem(client.get(f"/jobs/{job_id}/model/content?format=pickle"), 422, "validation_failed")


def test_the_best_and_any_other_checkpoint(
    client: TestClient, submit: Callable[..., Any], worker: Any
) -> None:
    job_id = submit()["id"]
    worker.claim()
    worker.prepare()
    best = worker.epoch(1, val_loss=0.1)
    for number in (2, 3):
        worker.epoch(number, val_loss=0.9)
    assert client.get(f"/jobs/{job_id}/model?checkpoint=best").json()["checkpoint"]["id"] == best
    manifest = client.get(f"/jobs/{job_id}/model?checkpoint={best}").json()
    assert manifest["checkpoint"]["epoch"] == 1 and manifest["weights_sha256"] is None
    assert client.get(f"/jobs/{job_id}/model").json()["checkpoint"]["epoch"] == 3
    assert client.get(f"/jobs/{job_id}/model/content?checkpoint=best").content.endswith(f'"{best}"]'.encode())
    by_id = client.get(f"/jobs/{job_id}/checkpoints/{best}/content")
    assert client.get(f"/jobs/{job_id}/checkpoints/best/content").content == by_id.content


@pytest.mark.parametrize(
    "part", ["model", "model/content", "model?checkpoint=best", "model/content?checkpoint=best"]
)
def test_no_model_before_the_first_checkpoint(
    client: TestClient, submit: Callable[..., Any], problem: Callable[..., Any], part: str
) -> None:
    problem(client.get(f"/jobs/{submit()['id']}/{part}"), 409, "wrong_state")
    problem(client.get(f"/jobs/job_0/{part}"), 404, "not_found")


def test_no_last_checkpoint_before_the_first(
    client: TestClient, submit: Callable[..., Any], problem: Callable[..., Any]
) -> None:
    job_id = submit()["id"]
    problem(client.get(f"/jobs/{job_id}/checkpoints/last/content"), 404, "not_found")
    problem(client.get(f"/jobs/{job_id}/checkpoints/newest/content"), 404, "not_found")


def test_preprocessing_is_what_the_trainer_does() -> None:
    from worker.training.images import IMAGENET_MEAN, IMAGENET_STD  # noqa: PLC0415 - loads torch

    preprocessing = Preprocessing(resize_shorter_side=256, center_crop=224)
    assert preprocessing.mean == IMAGENET_MEAN and preprocessing.std == IMAGENET_STD
