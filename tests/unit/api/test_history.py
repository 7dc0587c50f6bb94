"""Events, attempts, checkpoints and logs."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store
from models.database import Database
from models.job_state import EndCause

ATTEMPT = {
    "attempt", "worker_id", "worker_pid", "trainer_pid", "host", "device", "from_checkpoint", "started_at",
    "first_step_at", "ended_at", "end_cause", "detection_seconds", "restart_seconds", "steps_redone",
    "exact", "inexact_reasons",
}  # fmt: skip


@pytest.fixture
def job_id(submit: Callable[..., Any], worker: Any, db: Database) -> str:
    """A job whose first attempt was taken back, and whose second one finished it."""
    job_id: str = submit()["id"]
    worker.claim()
    worker.prepare()
    first = worker.epoch(1)
    worker.log(1, "first\n")
    job_store.release(db, worker.fence, EndCause.PREEMPTED, "SIGTERM")
    worker.claim()
    worker.prepare(from_checkpoint=first, step=5)
    for number in (2, 3, 4):
        worker.epoch(number, val_loss=1.0 / number)
    worker.log(2, "second\n")
    job_store.finish(db, worker.fence, "ab" * 32)
    return job_id


def test_the_trail_is_in_order_and_in_pages(client: TestClient, job_id: str) -> None:
    seen: list[dict[str, Any]] = []
    after = 0
    while True:
        page = client.get(f"/jobs/{job_id}/events?limit=3&after={after}").json()
        seen += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert [event["sequence"] for event in seen] == list(range(1, len(seen) + 1))
    kinds = [event["type"] for event in seen]
    assert kinds[:2] == ["created", "claimed"] and kinds[-1] == "succeeded"
    assert set(seen[0]) == {"sequence", "type", "attempt", "message", "data", "created_at"}


def test_the_ledger(client: TestClient, job_id: str) -> None:
    page = client.get(f"/jobs/{job_id}/attempts").json()
    assert [row["attempt"] for row in page["data"]] == [1, 2]
    assert set(page["data"][0]) >= ATTEMPT
    assert [row["end_cause"] for row in page["data"]] == ["preempted", "finished"]
    assert page["data"][1]["from_checkpoint"] and page["data"][1]["ended_at"]
    assert len(client.get(f"/jobs/{job_id}/attempts?limit=1&after=1").json()["data"]) == 1


def test_checkpoints(client: TestClient, job_id: str) -> None:
    rows = client.get(f"/jobs/{job_id}/checkpoints").json()["data"]
    assert [(row["epoch"], row["status"]) for row in rows] == [
        (4, "committed"), (3, "committed"), (2, "pruned"), (1, "pruned"),
    ]  # fmt: skip
    assert set(rows[0]) >= {
        "id",
        "epoch",
        "step",
        "attempt",
        "size_bytes",
        "sha256",
        "path",
        "status",
        "val_loss",
    }
    page = client.get(f"/jobs/{job_id}/checkpoints?limit=2").json()
    assert page["has_more"]
    rest = client.get(f"/jobs/{job_id}/checkpoints?limit=2&after={page['last_id']}").json()
    assert [row["id"] for row in page["data"] + rest["data"]] == [row["id"] for row in rows]
    assert client.get(f"/jobs/{job_id}/checkpoints?after=ckpt_0").status_code == 404


def test_logs(client: TestClient, job_id: str) -> None:
    response = client.get(f"/jobs/{job_id}/logs")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.text == "--- attempt 1 ---\nfirst\n--- attempt 2 ---\nsecond\n"
    assert client.get(f"/jobs/{job_id}/logs?attempt=2").text == "second\n"
    assert client.get(f"/jobs/{job_id}/logs?attempt=2&max_bytes=4").text == "ond\n"
    assert client.get(f"/jobs/{job_id}/logs?max_bytes=3").text == "--- attempt 2 ---\nnd\n"
    assert client.get(f"/jobs/{job_id}/logs?attempt=9").text == ""


def test_logs_that_are_not_text_are_shown_all_the_same(client: TestClient, job_id: str, worker: Any) -> None:
    worker.log(10, "tenth ä\n")
    text = client.get(f"/jobs/{job_id}/logs?max_bytes=2&attempt=10").text
    assert text == "�\n"
    assert client.get(f"/jobs/{job_id}/logs").text.endswith("--- attempt 10 ---\ntenth ä\n")


@pytest.mark.parametrize("part", ["events", "attempts", "checkpoints", "logs"])
def test_a_new_job_has_little_to_tell(client: TestClient, submit: Callable[..., Any], part: str) -> None:
    response = client.get(f"/jobs/{submit()['id']}/{part}")
    assert response.status_code == 200
    if part == "logs":
        assert response.text == ""


@pytest.mark.parametrize("part", ["events", "attempts", "checkpoints", "logs"])
def test_an_unknown_job_has_nothing(client: TestClient, problem: Callable[..., Any], part: str) -> None:
    problem(client.get(f"/jobs/job_0/{part}"), 404, "not_found")
