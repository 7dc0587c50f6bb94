"""Quotas of a tenant: requests in a minute, jobs in the queue, bytes in the store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.problems import Refused
from api.quotas import SUM_EVERY_SECONDS, StoreQuota
from api.request_rate import RequestRate
from models.database import Database
from models.errors import QuotaExceeded
from models.settings import Settings
from tests.archives import flowers, zipped
from tests.unit.api.keyed import Clock, Headers, bearer, make

Problem = Callable[..., dict[str, Any]]
SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


@pytest.fixture
def served(settings: Settings, db: Database, bell: Any) -> Iterator[Callable[..., TestClient]]:
    """The service under these quotas."""
    clients: list[TestClient] = []

    def start(**quotas: int) -> TestClient:
        for name, value in quotas.items():
            setattr(settings, name, value)
        clients.append(TestClient(create_app(settings)).__enter__())
        return clients[-1]

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def acme(db: Database) -> Headers:
    return bearer(make(db, "write", "acme"))


@pytest.fixture
def other(db: Database) -> Headers:
    return bearer(make(db, "write", "other"))


def test_the_rate_of_requests(
    served: Callable[..., TestClient], acme: Headers, other: Headers, problem: Problem, db: Database
) -> None:
    client = served(requests_per_minute=5)
    for headers in (acme, acme, acme, bearer(make(db, "read", "acme")), acme):
        assert client.get("/jobs", headers=headers).status_code == 200
    response = client.get("/jobs", headers=acme)
    problem(response, 429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert client.get("/jobs", headers=other).status_code == 200, "each tenant has its own"
    assert client.get("/health/live").status_code == 200
    assert client.get("/jobs").status_code == 401, "and who is unknown has none"


def test_the_rate_is_that_of_any_minute() -> None:
    clock = Clock()
    rate = RequestRate(3, clock)
    for seconds in (0, 20, 20):
        clock.seconds += seconds
        rate.count("a")
    for wait in (20, 1):
        with pytest.raises(Refused) as refused:
            rate.count("a")
        assert refused.value.headers == {"Retry-After": str(wait)}
        clock.seconds += wait - 0.5
    clock.seconds += 0.5
    rate.count("a")
    with pytest.raises(Refused):
        rate.count("a")
    rate.count("b")


def test_jobs_in_the_queue(
    served: Callable[..., TestClient], acme: Headers, other: Headers, problem: Problem, worker: Any
) -> None:
    client = served(max_queued_jobs=2)
    key = {"Idempotency-Key": "first"}
    first = client.post("/jobs", json=SPEC, headers=acme | key).json()["id"]
    assert client.post("/jobs", json=SPEC, headers=acme).status_code == 201
    response = client.post("/jobs", json=SPEC, headers=acme | {"Idempotency-Key": "third"})
    problem(response, 429, "quota_exceeded")
    assert int(response.headers["retry-after"]) >= 1
    assert len(client.get("/jobs", headers=acme).json()["data"]) == 2
    assert client.post("/jobs", json=SPEC, headers=acme | key).json()["id"] == first, "a repeat is no new job"
    assert client.post("/jobs?dry_run=true", json=SPEC, headers=acme).status_code == 200
    assert client.post("/jobs", json=SPEC, headers=other).status_code == 201

    assert worker.claim() == first
    again = client.post("/jobs", json=SPEC, headers=acme | {"Idempotency-Key": "third"})
    assert again.status_code == 201 and "idempotent-replayed" not in again.headers


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_what_goes_back_into_the_queue_needs_a_place(
    served: Callable[..., TestClient], acme: Headers, problem: Problem, verb: str
) -> None:
    client = served(max_queued_jobs=1)
    job_id = client.post("/jobs", json=SPEC, headers=acme).json()["id"]
    stop = {"resume": "pause", "retry": "cancel"}[verb]
    stopped = client.post(f"/jobs/{job_id}/{stop}", headers=acme).json()["status"]
    client.post("/jobs", json=SPEC, headers=acme)
    problem(client.post(f"/jobs/{job_id}/{verb}", headers=acme), 429, "quota_exceeded")
    assert client.get(f"/jobs/{job_id}", headers=acme).json()["status"] == stopped


def test_extending_needs_a_place_too(
    served: Callable[..., TestClient], acme: Headers, problem: Problem, worker: Any
) -> None:
    client = served(max_queued_jobs=1)
    job_id = client.post("/jobs", json=SPEC, headers=acme).json()["id"]
    worker.run()
    client.post("/jobs", json=SPEC, headers=acme)
    response = client.post(f"/jobs/{job_id}/extend", json={"additional_epochs": 1}, headers=acme)
    problem(response, 429, "quota_exceeded")
    assert client.get(f"/jobs/{job_id}", headers=acme).json()["status"] == "succeeded"


def test_bytes_in_the_store(
    served: Callable[..., TestClient], acme: Headers, other: Headers, problem: Problem, worker: Any
) -> None:
    client = served(max_stored_bytes=2000)
    client.post("/jobs", json=SPEC, headers=acme)
    worker.run()  # two checkpoints of 1000 bytes stay
    client.app.state.services.store_quota._sums.clear()  # type: ignore[attr-defined]
    response = client.post("/jobs", json=SPEC, headers=acme)
    problem(response, 429, "quota_exceeded")
    assert int(response.headers["retry-after"]) >= 1
    assert client.post("/jobs", json=SPEC, headers=other).status_code == 201


PLAIN = zipped(flowers())
ZIP = {"Content-Type": "application/zip"}


def send(client: TestClient, headers: Headers, content: Any = PLAIN) -> Any:
    return client.post("/datasets", content=content, headers=headers | ZIP)


def test_uploads_count_from_the_moment_that_they_are_there(
    served: Callable[..., TestClient], acme: Headers, other: Headers, problem: Problem, settings: Settings
) -> None:
    client = served(max_stored_bytes=3 * len(PLAIN) - 1)
    first, second = send(client, acme), send(client, acme)
    assert (first.status_code, second.status_code) == (202, 202)
    response = send(client, acme)
    body = problem(response, 429, "quota_exceeded")
    assert f"{len(PLAIN) - 1:,} of them are left" in body["detail"]
    assert int(response.headers["retry-after"]) >= 1
    assert send(client, other).status_code == 202, "each tenant has its own"
    assert client.post("/datasets", json={"path": "flowers"}, headers=acme).status_code == 201, "not stored"
    assert client.delete(first.headers["location"], headers=acme).status_code == 204
    client.app.state.services.store_quota._sums.clear()  # type: ignore[attr-defined]
    assert send(client, acme).status_code == 202
    kept = [path for path in settings.uploads_folder.rglob("*") if path.is_file()]
    assert len(kept) == 3, "nothing of what was refused"


def test_what_never_said_its_size_is_cut_off(
    served: Callable[..., TestClient], acme: Headers, problem: Problem, settings: Settings
) -> None:
    client = served(max_stored_bytes=100_000)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield bytes(10_000)

    problem(send(client, acme, endless()), 429, "quota_exceeded")
    assert not [path for path in settings.uploads_folder.rglob("*") if path.is_file()]
    assert send(client, acme).status_code == 202, "nothing of it counts any more"


def test_it_is_the_images_that_count(
    served: Callable[..., TestClient], acme: Headers, other: Headers, problem: Problem, settings: Settings
) -> None:
    images = flowers() | {"rose/blank.bmp": b"BM" + bytes(50_000)}
    archive = zipped(images)
    client = served(max_stored_bytes=sum(map(len, images.values())) - 1)
    assert len(archive) < 5_000
    problem(send(client, acme, archive), 429, "quota_exceeded")
    assert not [path for path in settings.uploads_folder.rglob("*") if path.is_file()]
    images["rose/blank.bmp"] = images["rose/blank.bmp"][:-1]
    assert send(client, other, zipped(images)).status_code == 202


def test_uploads_at_once_see_each_other(db: Database) -> None:
    quota = StoreQuota(db, 100)
    quota.expect_room("a", 60)
    with quota.upload("a") as first, quota.upload("b") as others:
        first(60)
        others(100)
        with pytest.raises(QuotaExceeded, match="40 of them are left"):
            quota.expect_room("a", 60)
        with quota.upload("a") as second:
            second(40)
            with pytest.raises(QuotaExceeded):
                first(1)
        first(0)
    quota.expect_room("a", 100)


def test_a_full_store_takes_no_upload(
    served: Callable[..., TestClient], acme: Headers, problem: Problem, worker: Any
) -> None:
    client = served(max_stored_bytes=2000)
    client.post("/jobs", json=SPEC, headers=acme)
    worker.run()  # two checkpoints of 1000 bytes stay
    client.app.state.services.store_quota._sums.clear()  # type: ignore[attr-defined]
    problem(send(client, acme), 429, "quota_exceeded")


def test_bytes_are_added_up_now_and_then(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = Clock(), []
    monkeypatch.setattr("models.job_store.stored_bytes", lambda db, tenant: asked.append(tenant) or 0)
    quota = StoreQuota(db, 1, clock)
    for tenant in ("a", "a", "b"):
        quota.expect_room(tenant)
    clock.seconds += SUM_EVERY_SECONDS
    quota.expect_room("a")
    assert asked == ["a", "b", "a"]
    StoreQuota(db, None).expect_room("a")
    assert asked == ["a", "b", "a"]
