"""The database goes away and comes back under a process that stays."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from models.database import Database
from models.settings import Settings
from models.tables import metadata

SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/jobs"), ("GET", "/jobs"), ("GET", "/jobs/job_1"), ("POST", "/jobs/job_1/cancel"),
        ("POST", "/jobs/job_1/extend"), ("GET", "/jobs/job_1/metrics"),
        ("GET", "/jobs/job_1/metrics?format=csv"),
        ("GET", "/jobs/job_1/events"), ("GET", "/jobs/job_1/attempts"), ("GET", "/jobs/job_1/checkpoints"),
        ("GET", "/jobs/job_1/logs"), ("GET", "/jobs/job_1/stream"), ("GET", "/jobs/job_1/stream?after=0"),
        ("GET", "/jobs/job_1/model"), ("GET", "/jobs/job_1/model/content"),
        ("GET", "/jobs/compare?ids=job_1,job_2"),
        ("GET", "/jobs/job_1/checkpoints/ckpt_1/content"), ("GET", "/workers"), ("GET", "/health/ready"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", [None, "k"])
def test_every_route_says_when_to_come_back(
    settings: Settings, bell: Any, problem: Callable[..., Any], method: str, path: str, key: str | None
) -> None:
    settings.database_url = f"sqlite:///{settings.home / 'no' / 'such' / 'folder.db'}"
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"/jobs": SPEC, "/jobs/job_1/extend": {"additional_epochs": 1}}.get(path)
    with TestClient(create_app(settings)) as client:
        response = client.request(method, path, json=body if method == "POST" else None, headers=headers)
        problem(response, 503, "database_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert client.get("/health/live").status_code == 200


def test_it_serves_again_when_the_database_is_back(settings: Settings, bell: Any) -> None:
    folder = settings.home / "later"
    settings.database_url = f"sqlite:///{folder / 'perdure.db'}"
    with TestClient(create_app(settings)) as client:
        assert client.get("/jobs").status_code == 503
        folder.mkdir()
        db = Database(settings.database_url)
        metadata.create_all(db.engine)
        db.close()
        assert client.get("/jobs").status_code == 200
        assert client.post("/jobs", json=SPEC).status_code == 201
