"""Workers, architectures, health and version."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.app import create_app
from models import job_store
from models.database import Database
from models.settings import Settings
from models.tables import metadata, workers


def test_an_online_worker(client: TestClient, submit: Callable[..., Any], worker: Any, db: Database) -> None:
    worker.register()
    submit()
    job_id = worker.claim()
    job_store.worker_beat(db, "wrk_test", job_id)
    [row] = client.get("/workers").json()["data"]
    assert row["status"] == "online" and row["job_id"] == job_id and row["device"] == "cpu"
    assert row["pid"] and row["host"] and 0.0 <= row["heartbeat_age_seconds"] < 10.0


@pytest.mark.parametrize(
    ("seconds_ago", "status"), [(0.0, "online"), (29.0, "online"), (31.0, "lost"), (-1e6, "lost")]
)
def test_a_worker_that_is_silent_for_two_leases_is_lost(
    client: TestClient, worker: Any, db: Database, seconds_ago: float, status: str
) -> None:
    worker.register()  # a lease is 15 s by default; a beat from the future is one of before a reboot
    with db.writing() as tx:
        tx.execute(update(workers).values(heartbeat=workers.c.heartbeat - seconds_ago, job_id="job_x"))
    [row] = client.get("/workers").json()["data"]
    assert row["status"] == status
    assert row["job_id"] == ("job_x" if status == "online" else None)
    assert row["heartbeat_age_seconds"] >= 0.0


def test_a_worker_that_stopped(client: TestClient, worker: Any, db: Database) -> None:
    worker.register()
    job_store.worker_stopped(db, "wrk_test")
    with db.writing() as tx:
        tx.execute(update(workers).values(heartbeat=workers.c.heartbeat - 1000))
    assert client.get("/workers").json()["data"][0]["status"] == "stopped"


def test_drain_and_enable(client: TestClient, worker: Any, db: Database) -> None:
    worker.register()
    for _ in range(2):
        answer = client.post("/workers/wrk_test/drain")
        assert (answer.status_code, answer.json()["status"]) == (202, "draining"), answer.text
    assert client.get("/workers").json()["data"][0]["status"] == "draining"
    assert job_store.worker_beat(db, "wrk_test", None) == "draining"
    answer = client.post("/workers/wrk_test/enable")
    assert (answer.status_code, answer.json()["status"]) == (202, "online")


def test_why_a_worker_is_quarantined(client: TestClient, worker: Any, db: Database) -> None:
    worker.register()
    with db.writing() as tx:
        tx.execute(update(workers).values(quarantine_reason="It fails.", status="quarantined"))
    [row] = client.get("/workers").json()["data"]
    assert (row["status"], row["status_reason"]) == ("quarantined", "It fails.")
    with db.writing() as tx:
        tx.execute(update(workers).values(heartbeat=workers.c.heartbeat - 100.0))
    assert client.get("/workers").json()["data"][0]["status"] == "lost"


@pytest.mark.parametrize("worker_id", ["wrk_none", "job_1", "wrk_%00", "x" * 200])
def test_a_worker_that_is_not_there(client: TestClient, worker_id: str, problem: Callable[..., Any]) -> None:
    for verb in ("drain", "enable"):
        problem(client.post(f"/workers/{worker_id}/{verb}"), 404, "not_found")


def test_architectures(client: TestClient) -> None:
    rows = client.get("/models").json()["data"]
    by_name = {row["name"]: row for row in rows}
    assert {"efficientnet_b1", "mobilenet_v2", "resnet50", "vit_b_16"} <= set(by_name)
    assert by_name["efficientnet_b1"]["image_size"] == 240
    assert isinstance(by_name["mobilenet_v2"]["weights_present"], bool)
    assert [weights["name"] for weights in by_name["mobilenet_v2"]["weights"]] == [
        "IMAGENET1K_V1",
        "IMAGENET1K_V2",
    ]


def test_live_and_version(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    versions = client.get("/version").json()
    assert versions["version"] and versions["python"] and versions["packages"]["fastapi"]


def test_ready_on_a_migrated_database(settings: Settings, migrated: Database, bell: Any) -> None:
    with TestClient(create_app(settings)) as client:
        body = client.get("/health/ready").json()
        assert body["status"] == "ready" and body["degraded"] == []
        bell.answers = False
        body = client.get("/health/ready").json()
        assert body["degraded"] == ["broker"] and body["checks"]["broker"]["detail"]


def test_a_store_that_cannot_be_written_to_is_degraded(
    settings: Settings, migrated: Database, bell: Any
) -> None:
    settings.storage_url = "file:///dev/null/perdure"
    with TestClient(create_app(settings)) as client:
        assert client.get("/health/ready").json()["degraded"] == ["storage"]


def test_not_ready_without_the_schema(settings: Settings, bell: Any, problem: Callable[..., Any]) -> None:
    with TestClient(create_app(settings)) as client:
        response = client.get("/health/ready")
        problem(response, 503, "schema_missing")
        assert response.headers["retry-after"]
        assert client.get("/health/live").status_code == 200
        problem(client.get("/jobs"), 503, "schema_behind")


def test_not_ready_behind_the_schema(
    settings: Settings, bell: Any, problem: Callable[..., Any], migrated: Database
) -> None:
    with migrated.writing() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with TestClient(create_app(settings)) as client:
        problem(client.get("/health/ready"), 503, "schema_behind")


def test_tables_are_those_of_the_migrations(migrated: Database) -> None:
    with migrated.reading() as tx:
        names = set(tx.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    assert set(metadata.tables) <= names
