"""Request ids, keys, foreign pages, wrong addresses, and errors that nobody foresaw."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient

from api.app import create_app
from models import job_store
from models.errors import LeaseLost
from models.settings import Settings


@pytest.fixture
def locked(settings: Settings, db: Any, bell: Any) -> Iterator[TestClient]:
    settings.api_keys = ("first-key", "second-key")
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize("header", ["Bearer first-key", "Bearer second-key", "bearer first-key"])
def test_any_of_the_keys_opens(locked: TestClient, header: str) -> None:
    assert locked.get("/jobs", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/v1/health/live"])
def test_health_is_open(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_foreign_page_cannot_steer_an_open_server(
    client: TestClient, submit: Callable[..., Any], site: str, status: int
) -> None:
    job_id = submit()["id"]
    response = client.post(f"/jobs/{job_id}/cancel", headers={"Sec-Fetch-Site": site})
    assert response.status_code == status
    assert client.get(f"/jobs/{job_id}", headers={"Sec-Fetch-Site": site}).status_code == 200


@pytest.mark.parametrize("given", ["abc-123", "a.b:c_d", "x" * 100])
def test_a_sane_request_id_is_kept(client: TestClient, given: str) -> None:
    assert client.get("/jobs", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 101, "a b", '"}{', "a\x1b[31m", "ä"])
def test_other_request_ids_are_replaced(client: TestClient, given: str) -> None:
    made = client.get("/jobs", headers={b"X-Request-Id": given.encode()}).headers["x-request-id"]
    assert made != given and len(made) == 32


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/jobs", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "/v1/jobs", {"GET", "HEAD", "POST"}),
        ("PUT", "/jobs/job_1", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("GET", "/jobs/job_1/cancel", {"POST"}),
        ("HEAD", "/jobs/job_1/cancel", {"POST"}),
    ],
)
def test_wrong_methods(
    client: TestClient, problem: Callable[..., Any], method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    if method != "HEAD":
        problem(response, 405, "method_not_allowed")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed


def test_an_unforeseen_error_tells_nothing_but_its_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, problem: Callable[..., Any]
) -> None:
    def boom(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(job_store, "list_jobs", boom)
    with structlog.testing.capture_logs() as logs:
        response = client.get("/jobs", headers={"X-Request-Id": "find-me"})
    problem(response, 500, "internal_error")
    assert "hunter2" not in response.text and "RuntimeError" not in response.text
    assert any(line["event"] == "request.failed" for line in logs)
    assert client.get("/jobs/job_1").status_code == 404  # the process goes on


def test_a_domain_error_that_is_not_the_users_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, problem: Callable[..., Any]
) -> None:
    def lost(*args: Any, **kwargs: Any) -> Any:
        raise LeaseLost

    monkeypatch.setattr(job_store, "list_jobs", lost)
    problem(client.get("/jobs"), 500, "internal_error")


def test_one_log_line_a_request(client: TestClient) -> None:
    with structlog.testing.capture_logs() as logs:
        client.get("/jobs?name=secret")
        client.post("/jobs", content=b"{", headers={"Content-Type": "application/json"})
    lines = [line for line in logs if line["event"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/jobs", 200), ("POST", "/jobs", 400),
    ]  # fmt: skip
    assert "secret" not in json.dumps(lines)
