"""POST /jobs/{id}/predict: what goes to the process, what comes back, and who is turned away before."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.image_body import MAX_IMAGE_BYTES
from tests.unit.api.predictions.conftest import Oracle

JPEG = {"Content-Type": "image/jpeg"}


def test_an_image_is_asked_about_with_the_recorded_files(
    client: TestClient, job_id: str, url: str, oracle: Oracle
) -> None:
    response = client.post(url, content=b"\xff\xd8picture", headers=JPEG)
    assert response.status_code == 200, response.text
    body = response.json()
    row = client.get(f"/jobs/{job_id}/checkpoints").json()["data"][0]
    found = {"class": "ÿØpicture", "index": 9, "probability": 0.5}
    assert body == {
        "object": "prediction", "job_id": job_id, "checkpoint_id": row["id"], "epoch": 4,
        "predictions": [found] * 5,
    }  # fmt: skip
    [asked] = map(json.loads, oracle.asked)
    assert asked["checkpoint"] == {name: row[name] for name in ("path", "sha256", "size_bytes")}
    assert asked["frozen"] is None and asked["storage_url"].startswith("file://")


def test_the_best_or_any_other_checkpoint(
    client: TestClient, submit: Callable[..., Any], worker: Any, problem: Callable[..., Any]
) -> None:
    job_id = submit()["id"]
    url = f"/jobs/{job_id}/predict"
    problem(client.post(url, content=b"x", headers=JPEG), 409, "wrong_state")
    worker.claim()
    worker.prepare()
    best = worker.epoch(1, val_loss=0.1)
    pruned, last = worker.epoch(2), worker.epoch(3)
    worker.epoch(4)

    def ask(query: str) -> Any:
        return client.post(f"{url}?{query}", content=b"x", headers=JPEG)

    assert ask("checkpoint=best").json()["checkpoint_id"] == best
    assert ask(f"checkpoint={last}&top_k=2").json()["checkpoint_id"] == last
    assert len(ask("top_k=2").json()["predictions"]) == 2
    problem(ask(f"checkpoint={pruned}"), 409, "wrong_state")
    problem(ask("checkpoint=ckpt_0"), 404, "not_found")
    for query in ("top_k=0", "top_k=1001", "top_k=x", "checkpoint=newest"):
        problem(ask(query), 422, "validation_failed")
    problem(client.post("/jobs/job_0/predict", content=b"x", headers=JPEG), 404, "not_found")


@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpg", "IMAGE/WEBP; charset=x", "application/octet-stream"]
)
def test_kinds_of_images(client: TestClient, url: str, kind: str) -> None:
    assert client.post(url, content=b"x", headers={"Content-Type": kind}).status_code == 200


def test_an_image_that_is_too_large(client: TestClient, url: str, problem: Callable[..., Any]) -> None:
    assert client.post(url, content=bytes(MAX_IMAGE_BYTES), headers=JPEG).status_code == 200
    problem(client.post(url, content=bytes(MAX_IMAGE_BYTES + 1), headers=JPEG), 413, "body_too_large")

    unannounced = iter([bytes(2**20)] * (MAX_IMAGE_BYTES // 2**20 + 1))
    problem(client.post(url, content=unannounced, headers=JPEG), 413, "body_too_large")


def test_a_form_with_a_file(client: TestClient, url: str) -> None:
    content = b"\r\n--no\r\n\r\nboundary\n\r\x00\xff--"
    for files in (
        {"image": ("a.png", content, "image/png")},
        {"file": ("b", content)},
        {"other": (None, b"text"), "image": ("ä.jpg", content, "image/jpeg")},
    ):
        response = client.post(url, files=files)
        assert response.json()["predictions"][0]["class"] == content.decode("latin-1"), files


def test_an_idempotency_key_is_bound_to_the_image(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any]
) -> None:
    headers = {**JPEG, "Idempotency-Key": "k"}
    first = client.post(url, content=b"one", headers=headers)
    again = client.post(url, content=b"one", headers=headers)
    assert again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
    assert len(oracle.asked) == 1
    problem(client.post(url, content=b"two", headers=headers), 422, "idempotency_key_reused")
