"""Torchvision's own datasets by name: registered, or named by a job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.settings import Settings

Problem = Callable[..., dict[str, Any]]
SPEC: dict[str, Any] = {"dataset": {"builtin": "mnist"}, "model": {"weights": None}}


@pytest.fixture
def offline(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "downloads", False)


def test_it_is_registered_and_checked_like_any_other(
    client: TestClient, bell: Any, check: Callable[..., Any], settings: Settings
) -> None:
    response = client.post("/datasets", json={"builtin": "cifar10", "name": "mine"})
    assert response.status_code == 201 and bell.rings == ["light"]
    body = response.json()
    assert (body["source"], body["builtin"], body["path"], body["name"]) == (
        "builtin", "cifar10", None, "mine",
    )  # fmt: skip
    assert check() == body["id"]
    job = client.post("/jobs", json={"dataset": {"id": body["id"]}, "model": {"weights": None}}).json()
    client.post(f"/jobs/{job['id']}/cancel")
    shared = settings.uploads_folder / ".builtin/cifar10"
    shared.mkdir(parents=True)
    assert client.delete(response.headers["location"]).status_code == 204
    assert shared.is_dir(), "others may use it"


def test_a_job_may_name_it(client: TestClient) -> None:
    body = client.post("/jobs", json=SPEC).json()
    assert body["spec"]["dataset"] == {"builtin": "mnist"}
    assert [warning for warning in body["warnings"] if "will fetch it" in warning]


@pytest.mark.parametrize(
    "dataset",
    [{"builtin": "imagenet"}, {"builtin": None}, {"builtin": ""}, {"builtin": "CIFAR10"}, {"builtin": 1},
     {"builtin": "mnist", "path": "flowers"}, {"builtin": "mnist", "id": "ds_1"}],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    client: TestClient, problem: Problem, num_jobs: Callable[[], int], dataset: dict[str, Any]
) -> None:
    body = problem(client.post("/jobs", json=SPEC | {"dataset": dataset}), 422)
    assert body["errors"][0]["field"].startswith("dataset") and num_jobs() == 0


@pytest.mark.usefixtures("offline")
def test_without_downloads_it_says_what_to_do(
    client: TestClient, problem: Problem, leftovers: Callable[[], Any], num_jobs: Callable[[], int]
) -> None:
    body = problem(client.post("/jobs", json=SPEC), 422, "dataset_unavailable")
    assert body["errors"][0]["field"] == "dataset.builtin"
    assert "MNIST/raw" in body["detail"] and "PERDURE_DOWNLOADS" in body["detail"]
    body = problem(client.post("/datasets", json={"builtin": "mnist"}), 422, "dataset_unavailable")
    assert body["errors"][0]["field"] == "builtin"
    assert leftovers() == ([], 0) and num_jobs() == 0


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("where", ["data/MNIST/raw", "data/.uploads/.builtin/mnist"])
def test_without_downloads_what_is_here_will_do(client: TestClient, tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir(parents=True)
    response = client.post("/jobs", json=SPEC)
    assert response.status_code == 201
    assert not [warning for warning in response.json()["warnings"] if "fetch" in warning]
    assert client.post("/datasets", json={"builtin": "mnist"}).status_code == 201
