"""Tenants see nothing of each other: another's job is as if it were not there, whatever is asked of it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from models import job_store
from models.database import Database
from models.settings import Settings
from models.tables import workers
from tests.unit.api.keyed import Headers, bearer, make
from tests.unit.api.test_scopes import routes

Problem = Callable[..., dict[str, Any]]
SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}
BODIES = {"/extend": {"additional_epochs": 1}, "/drill": {"fault": "kill_trainer"}}


@pytest.fixture
def acme(db: Database) -> Headers:
    return bearer(make(db, "admin", "acme"))


@pytest.fixture
def other(db: Database) -> Headers:
    return bearer(make(db, "admin", "other"))


def post_job(client: TestClient, headers: Headers, **more: str) -> dict[str, Any]:
    response = client.post("/jobs", json=SPEC, headers=headers | more)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize(("method", "path"), [found for found in routes() if "job_1" in found[1]])
def test_anothers_job_is_not_there(
    client: TestClient, acme: Headers, other: Headers, worker: Any, settings: Settings, problem: Problem,
    method: str, path: str,
) -> None:  # fmt: skip
    settings.drills = True
    job_id = post_job(client, acme)["id"]
    worker.run()
    checkpoint_id = client.get(f"/jobs/{job_id}/checkpoints", headers=acme).json()["data"][0]["id"]
    real = path.replace("job_1", job_id).replace("ckpt_1", checkpoint_id)
    body = BODIES.get(path[path.rindex("/") :], {}) if method == "POST" else None
    before = client.get(f"/jobs/{job_id}/events", headers=acme).json()

    theirs = client.request(method, real, headers=other, json=body)
    nobodys = client.request(method, path, headers=other, json=body)
    told = [problem(response, 404, "not_found") | {"request_id": ""} for response in (theirs, nobodys)]
    assert told[0] == told[1], "no more is told of a job of another than of none"
    assert client.get(f"/jobs/{job_id}/events", headers=acme).json() == before
    if not path.endswith("/model/content"):  # which a process with torch would make of a real checkpoint
        mine = client.request(method, real, headers=acme, json=body).status_code
        assert mine not in {401, 403, 404} and mine < 500


def test_a_tenant_can_use_its_jobs_in_full(client: TestClient, acme: Headers, worker: Any) -> None:
    job_id = post_job(client, acme)["id"]
    worker.run()
    for path in ("", "/metrics", "/events", "/attempts", "/checkpoints", "/logs", "/model"):
        assert client.get(f"/jobs/{job_id}{path}", headers=acme).status_code == 200, path


def test_lists_hold_ones_own(client: TestClient, acme: Headers, other: Headers) -> None:
    made = [post_job(client, acme)["id"] for _ in range(2)]
    theirs = post_job(client, other)["id"]
    assert [job["id"] for job in client.get("/jobs", headers=acme).json()["data"]] == made[::-1]
    assert [job["id"] for job in client.get("/jobs", headers=other).json()["data"]] == [theirs]
    after = client.get("/jobs", params={"after": made[1]}, headers=other).json()
    assert [job["id"] for job in after["data"]] == []


def test_idempotency_keys_are_ones_own(client: TestClient, acme: Headers, other: Headers) -> None:
    key = {"Idempotency-Key": "the-same"}
    mine = post_job(client, acme, **key)
    theirs = client.post("/jobs", json={**SPEC, "seed": 1}, headers=other | key)
    assert theirs.status_code == 201 and "idempotent-replayed" not in theirs.headers
    assert theirs.json()["id"] != mine["id"]
    assert post_job(client, acme, **key)["id"] == mine["id"]


def test_a_worker_does_not_tell_whose_job_it_runs(
    client: TestClient, acme: Headers, other: Headers, worker: Any, db: Database
) -> None:
    worker.register()
    job_id = post_job(client, acme)["id"]
    job_store.worker_beat(db, "wrk_test", job_id)
    shown = {
        name: client.get("/workers", headers=headers).json()["data"][0]["job_id"]
        for name, headers in (("acme", acme), ("other", other), ("operator", bearer(make(db))))
    }
    assert shown == {"acme": job_id, "other": None, "operator": None}
    with db.writing() as tx:
        tx.execute(update(workers).values(job_id="job_gone"))
    assert client.get("/workers", headers=other).json()["data"][0]["job_id"] == "job_gone"


@pytest.mark.parametrize(
    ("route", "body"),
    [("/datasets", {"path": "flowers"}), ("/webhooks", {"url": "https://8.8.8.8/hook"})],
)
def test_what_is_not_below_a_job_is_ones_own_too(
    client: TestClient, acme: Headers, other: Headers, problem: Problem, monkeypatch: pytest.MonkeyPatch,
    route: str, body: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(
        "api.routes.webhooks.expect_callable", lambda url, allowed_hosts: None
    )  # looks names up
    made = client.post(route, json=body, headers=acme)
    assert made.status_code == 201, made.text
    path = f"{route}/{made.json()['id']}"
    for method in ("GET", "DELETE"):
        problem(client.request(method, path, headers=other), 404, "not_found")
    assert client.get(route, headers=other).json()["data"] == []
    assert client.get(path, headers=acme).status_code == 200


def test_a_dataset_of_another_tenant_is_none_to_train_on(
    client: TestClient, acme: Headers, other: Headers, problem: Problem
) -> None:
    dataset = client.post("/datasets", json={"path": "flowers"}, headers=acme).json()["id"]
    spec = SPEC | {"dataset": {"id": dataset}}
    problem(client.post("/jobs", json=spec, headers=other), 422, "spec_invalid")
    mine = client.post("/jobs", json=spec, headers=acme)
    assert mine.status_code == 409 and mine.json()["code"] == "dataset_not_ready"


def test_a_clone_stays_with_its_tenant(client: TestClient, acme: Headers, other: Headers) -> None:
    job_id = post_job(client, acme)["id"]
    clone = client.post(f"/jobs/{job_id}/clone", json={}, headers=acme)
    assert clone.status_code == 201, clone.text
    assert client.get(f"/jobs/{clone.json()['id']}", headers=acme).status_code == 200
    assert client.get(f"/jobs/{clone.json()['id']}", headers=other).status_code == 404
