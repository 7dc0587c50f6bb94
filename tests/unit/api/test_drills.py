"""Drills over HTTP: off unless enabled, refused where they make no sense, reported from the ledger."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store
from models.database import Database
from models.job_state import EndCause
from models.settings import Settings


@pytest.fixture
def running(
    settings: Settings, client: TestClient, submit: Callable[..., dict[str, Any]], worker: Any
) -> str:
    """A job with a committed epoch, where drills are on."""
    settings.drills = True
    submit()
    job_id: str = worker.claim()
    worker.prepare()
    worker.epoch(1)
    return job_id


def post(client: TestClient, job_id: str, fault: Any = "kill_trainer", **headers: str) -> Any:
    return client.post(f"/jobs/{job_id}/drill", json={"fault": fault}, headers=headers)


@pytest.mark.parametrize("fault", ["kill_trainer", "kill_worker", "stall", "corrupt_checkpoint"])
def test_a_drill_is_accepted_and_listed(client: TestClient, running: str, fault: str) -> None:
    answer = post(client, running, fault)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["fault"], body["status"], body["recovered"]) == (fault, "requested", False)
    assert client.get(f"/jobs/{running}/drills").json()["data"] == [body]
    assert client.get(f"/jobs/{running}").json()["links"]["drills"] == f"/jobs/{running}/drills"


def test_the_report_after_a_recovery(client: TestClient, running: str, worker: Any, db: Database) -> None:
    drill_id = post(client, running).json()["id"]
    job_store.carry_out_drill(db, worker.fence, drill_id)
    after: Any = job_store.restart_attempt(
        db, worker.fence, EndCause.TRAINER_KILLED, "Gone.", device="cpu", step=8, detection_seconds=0.1,
        lease_seconds=60.0,
    )  # fmt: skip
    worker.fence = after.fence
    worker.prepare(from_checkpoint="ckpt_1", step=5)
    job_store.first_step(db, worker.fence)
    [report] = client.get(f"/jobs/{running}/drills").json()["data"]
    assert (report["status"], report["recovered"], report["exact"]) == ("recovered", True, True)
    assert (report["attempt"], report["steps_redone"]) == (1, 3)
    assert 0.0 <= report["detected_seconds"] <= report["running_again_seconds"]
    first, second = client.get(f"/jobs/{running}/attempts").json()["data"]
    assert (first["drill"], second["drill"]) == (drill_id, None)


def test_off_unless_enabled(
    settings: Settings, client: TestClient, running: str, problem: Callable[..., Any]
) -> None:
    settings.drills = False
    told = problem(post(client, running), 403, "drills_disabled")
    assert "perdure up --drills" in told["detail"] and "PERDURE_DRILLS=true" in told["detail"]
    assert client.get(f"/jobs/{running}/drills").json()["data"] == []


def test_the_same_request_again_is_one_drill(client: TestClient, running: str) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = post(client, running, **key), post(client, running, **key)
    assert first.json() == second.json() and second.headers["idempotent-replayed"] == "true"
    assert len(client.get(f"/jobs/{running}/drills").json()["data"]) == 1


def test_a_second_one_meanwhile(client: TestClient, running: str, problem: Callable[..., Any]) -> None:
    post(client, running)
    problem(post(client, running, "stall"), 409, "wrong_state")


@pytest.mark.parametrize("fault", ["coffee", "", None, 1, ["stall"]])
def test_an_unknown_fault(client: TestClient, running: str, fault: Any, problem: Callable[..., Any]) -> None:
    told = problem(post(client, running, fault), 422, "validation_failed")
    assert told["errors"][0]["field"] == "fault"


def test_no_job_and_a_job_that_does_not_run(
    settings: Settings, client: TestClient, submit: Callable[..., dict[str, Any]], problem: Callable[..., Any]
) -> None:
    settings.drills = True
    problem(post(client, "job_none"), 404, "not_found")
    problem(client.get("/jobs/job_none/drills"), 404, "not_found")
    problem(post(client, submit()["id"]), 409, "wrong_state")


def test_no_checkpoint_to_damage(
    settings: Settings,
    client: TestClient,
    submit: Callable[..., Any],
    worker: Any,
    problem: Callable[..., Any],
) -> None:
    settings.drills = True
    submit()
    told = problem(post(client, worker.claim(), "corrupt_checkpoint"), 409, "wrong_state")
    assert "no committed checkpoint" in told["detail"]


def test_a_store_without_files(
    client: TestClient, running: str, monkeypatch: pytest.MonkeyPatch, problem: Callable[..., Any]
) -> None:
    monkeypatch.setattr("api.routes.drills.LocalStorage", type("Another", (), {}))
    problem(post(client, running, "corrupt_checkpoint"), 409, "drill_unsupported")
    assert post(client, running, "kill_trainer").status_code == 202
