"""The body of a job in each of its states."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from models import job_store
from models.database import Database
from models.job_state import EndCause
from models.tables import jobs

CONTRACT = {
    "id", "status", "status_reason", "queue_position", "attempt", "recoveries", "exact", "inexact_reasons",
    "numerics", "progress", "estimated_finish", "goodput", "best", "resume_from", "error", "weights_sha256",
    "parent_id", "spec", "created_at", "started_at", "finished_at", "links",
}  # fmt: skip


def test_nothing_of_the_contract_is_missing(submit: Callable[..., Any]) -> None:
    body = submit()
    assert set(body) >= CONTRACT
    assert set(body["progress"]) >= {"phase", "epoch", "epochs", "step", "steps", "percent"}


def test_a_queued_job_says_why_it_waits(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    first, second = submit(), submit()
    on_cuda = submit(resources={"device": "cuda"})
    assert first["status_reason"] == "No worker is online; the job starts as soon as one is."
    worker.register()
    assert reason(client, first) == "Waits for a free worker."
    assert reason(client, second) == "Waits for a free worker; 1 job is ahead."
    assert "No cuda worker is online" in reason(client, on_cuda)


def test_a_job_that_waits_for_equal_numerics_says_so(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database
) -> None:
    job = submit()
    worker.register()
    worker.claim()
    worker.prepare()
    job_store.release(db, worker.fence, EndCause.PREEMPTED, "drained")
    assert "computes the same bits" in reason(client, job)


def test_a_running_job(client: TestClient, submit: Callable[..., Any], worker: Any, db: Database) -> None:
    job = submit()
    worker.claim()
    body = client.get(f"/jobs/{job['id']}").json()
    assert body["status"] == "running" and body["worker_id"] == "wrk_test" and body["attempt"] == 1
    assert body["started_at"] and body["goodput"] is None and body["best"] is None
    worker.prepare()
    worker.epoch(1, val_loss=0.7)
    job_store.record_progress(db, worker.fence, job_store.Position("training", 2, 5, step=7, epochs_done=1))
    body = client.get(f"/jobs/{job['id']}").json()
    assert body["progress"] == {
        "phase": "training", "phase_done": 2, "phase_total": 5, "epoch": 2, "epochs_done": 1, "epochs": 4,
        "step": 7, "steps": 20, "percent": 35.0,
    }  # fmt: skip
    assert body["best"]["epoch"] == 1 and body["best"]["val_loss"] == 0.7
    assert body["resume_from"] == {"checkpoint_id": body["best"]["checkpoint_id"], "epoch": 1, "step": 5}
    assert 0.0 < body["goodput"] <= 1.0
    assert body["numerics"] == {"threads": 2} and body["dataset"]["classes"] == ["daisy", "rose", "tulip"]
    assert datetime.fromisoformat(body["estimated_finish"]) > datetime.fromisoformat(body["started_at"])


def test_a_job_that_succeeded(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    job = submit()
    worker.run()
    body = client.get(f"/jobs/{job['id']}").json()
    assert body["status"] == "succeeded" and body["weights_sha256"] == "ab" * 32
    assert body["progress"]["percent"] == 100.0 and body["progress"]["epoch"] == 4
    assert body["finished_at"] >= body["started_at"] >= body["created_at"]
    assert body["finished_at"].endswith("Z")
    assert body["estimated_finish"] is None and body["worker_id"] is None
    assert body["best"]["epoch"] == 4


def test_a_job_that_failed(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    job = submit()
    worker.claim()
    worker.fail()
    body = client.get(f"/jobs/{job['id']}").json()
    assert body["error"] == {"code": "dataset_changed", "message": "It cannot go on."}
    assert body["status_reason"] == "It cannot go on."


def test_pauses_do_not_count_against_the_goodput(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database
) -> None:
    job = submit()
    worker.run()
    row = job_store.get_job(db, job["id"])
    wall = (row.finished_at - row.first_claimed_at).total_seconds()
    before = client.get(f"/jobs/{job['id']}").json()["goodput"]
    with db.writing() as tx:
        tx.execute(update(jobs).values(paused_seconds=wall / 2))
    assert client.get(f"/jobs/{job['id']}").json()["goodput"] == pytest.approx(2 * before, rel=0.01)


def test_links_lead_somewhere(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    job = submit()
    worker.run()
    for link in job["links"].values():
        assert client.get(link).status_code == 200, link


def test_an_estimate_from_a_tiny_step_is_still_a_date(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database
) -> None:
    job = submit(hyperparameters={"epochs": 10_000})
    worker.claim()
    worker.prepare(epochs=10_000)
    worker.epoch(1, seconds=1e12)
    assert client.get(f"/jobs/{job['id']}").json()["estimated_finish"]


def reason(client: TestClient, job: dict[str, Any]) -> str:
    text: str = client.get(f"/jobs/{job['id']}").json()["status_reason"]
    return text
