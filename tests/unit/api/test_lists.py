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


@pytest.mark.parametrize("path", ["/jobs?", "/jobs?metadata[team]=a&", "/jobs?status=cancelled&"])
def test_a_walk_misses_and_repeats_none_while_jobs_come_and_go(
    client: TestClient, submit: Callable[..., Any], path: str
) -> None:
    """After each page one more job is submitted, and two are deleted: the page's last, and one to come."""
    there = [submit(metadata={"team": "a"})["id"] for _ in range(30)][::-1]
    for job_id in there:
        client.post(f"/jobs/{job_id}/cancel")
    seen: list[str] = []
    page = client.get(f"{path}limit=3").json()
    while page["has_more"]:
        seen += [job["id"] for job in page["data"]]
        to_come = [job_id for job_id in there if job_id not in seen]
        for gone in (page["last_id"], *to_come[1:2]):
            assert client.delete(f"/jobs/{gone}").status_code == 204
        there = [job_id for job_id in there if job_id not in to_come[1:2]]
        submit(metadata={"team": "a"})
        page = client.get(f"{path}limit=3&after={page['last_id']}").json()
    assert seen + [job["id"] for job in page["data"]] == there


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


def test_metadata_filter(client: TestClient, submit: Callable[..., Any]) -> None:
    a = submit(metadata={"team": "vision", "run": "1"})
    b = submit(metadata={"team": "vision", "x[y]": "ä&b"})
    submit(metadata={"team": "audio"})
    assert ids(client.get("/jobs?metadata[team]=vision")) == [b["id"], a["id"]]
    assert ids(client.get("/jobs", params={"metadata[team]": "vision", "metadata[run]": "1"})) == [a["id"]]
    assert ids(client.get("/jobs", params={"metadata[x[y]]": "ä&b"})) == [b["id"]]
    assert ids(client.get("/jobs?metadata[team]=vision&limit=1")) == [b["id"]]
    assert ids(client.get(f"/jobs?metadata[team]=vision&after={b['id']}")) == [a["id"]]
    assert ids(client.get("/jobs?metadata[nobody]=has")) == []


@pytest.mark.parametrize(
    "query",
    ["metadata=x", "metadata.team=x", "metadata[]=x", "metadata[a]=1&metadata[a]=1", "metadata[a]=%00",
     "metadata[%0a]=1", f"metadata[{'k' * 65}]=1", f"metadata[k]={'v' * 513}", "created_after=yesterday",
     "&".join(f"metadata[{n}]=1" for n in range(17)),
     "created_after=2026-01-31T00:00:00", "created_before=0001-01-01T00:00:00%2B05:00", "status=done"],
)  # fmt: skip
def test_filters_that_cannot_be_meant(client: TestClient, problem: Callable[..., Any], query: str) -> None:
    body = problem(client.get(f"/jobs?{query}"), 422, "validation_failed")
    assert body["errors"][0]["field"].startswith(query[:6])


def test_instants_filter(client: TestClient, submit: Callable[..., Any]) -> None:
    old, new = submit(), submit()
    at = new["created_at"]
    assert ids(client.get("/jobs", params={"created_after": at})) == [new["id"]]
    assert ids(client.get("/jobs", params={"created_before": at})) == [old["id"]]


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
