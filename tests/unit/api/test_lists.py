"""Listing and filtering jobs; pages that hold while jobs are being added."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient


def walk(client: TestClient, path: str, limit: int, meanwhile: Callable[[], Any] = lambda: None) -> list[Any]:
    """Every row, page by page."""
    rows: list[Any] = []
    after: Any = None
    while True:
        params = {"limit": limit} | ({} if after is None else {"after": after})
        page = client.get(path, params=params).json()
        assert page["object"] == "list" and len(page["data"]) <= limit
        rows += page["data"]
        meanwhile()
        if not page["has_more"]:
            return rows
        after = page["last_id"]


def test_an_empty_list(client: TestClient) -> None:
    assert client.get("/jobs").json() == {"object": "list", "data": [], "has_more": False, "last_id": None}


def test_a_walk_sees_each_job_once_while_others_are_submitted(
    client: TestClient, submit: Callable[..., Any]
) -> None:
    before = [submit()["id"] for _ in range(23)]
    seen = [job["id"] for job in walk(client, "/jobs", 5, meanwhile=submit)]
    assert seen == before[::-1]


@pytest.mark.parametrize("limit", [1, 22, 23, 24, 100])
def test_pages_end_where_the_list_does(client: TestClient, submit: Callable[..., Any], limit: int) -> None:
    ids = [submit()["id"] for _ in range(23)]
    page = client.get("/jobs", params={"limit": limit}).json()
    assert page["has_more"] == (limit < 23)
    assert page["last_id"] == ids[::-1][:limit][-1]


def test_the_default_page_has_twenty(client: TestClient, submit: Callable[..., Any]) -> None:
    for _ in range(21):
        submit()
    assert len(client.get("/jobs").json()["data"]) == 20


def test_filters(client: TestClient, submit: Callable[..., Any]) -> None:
    a, b, c = submit(name="a"), submit(name="b"), submit(name="a")
    client.post(f"/jobs/{c['id']}/cancel")
    assert ids(client.get("/jobs?name=a")) == [c["id"], a["id"]]
    assert ids(client.get("/jobs?status=queued")) == [b["id"], a["id"]]
    assert ids(client.get("/jobs?status=cancelled&name=a")) == [c["id"]]
    assert ids(client.get("/jobs?status=running")) == []
    assert ids(client.get("/jobs?name=A")) == []


def test_places_in_the_queue(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    low, normal, high = submit(priority=-1), submit(), submit(priority=5)
    places = {job["id"]: job["queue_position"] for job in client.get("/jobs").json()["data"]}
    assert places == {high["id"]: 1, normal["id"]: 2, low["id"]: 3}
    assert worker.claim() == high["id"]
    assert client.get(f"/jobs/{normal['id']}").json()["queue_position"] == 1
    assert client.get(f"/jobs/{high['id']}").json()["queue_position"] is None


def test_a_list_of_jobs_in_every_state(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    submit()
    worker.run()
    submit()
    worker.claim()
    worker.fail()
    submit()
    worker.claim()
    paused, cancelled = submit(), submit()
    client.post(f"/jobs/{paused['id']}/pause")
    client.post(f"/jobs/{cancelled['id']}/cancel")
    submit()
    statuses = [job["status"] for job in client.get("/jobs").json()["data"]]
    assert statuses == ["queued", "cancelled", "paused", "running", "failed", "succeeded"]
    for status in statuses:
        assert len(client.get(f"/jobs?status={status}").json()["data"]) == 1


def ids(response: Any) -> list[str]:
    return [job["id"] for job in response.json()["data"]]
