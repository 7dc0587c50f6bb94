"""cancel, pause, resume, retry, extend: every code of the contract, from every state."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store

VERBS = ("cancel", "pause", "resume", "retry", "extend")
STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")

#: state -> verb -> (code, status afterwards)
CONTRACT: dict[str, dict[str, tuple[int, str]]] = {
    "queued": {"cancel": (200, "cancelled"), "pause": (200, "paused"), "resume": (409, "queued"),
               "retry": (409, "queued"), "extend": (409, "queued")},
    "running": {"cancel": (202, "running"), "pause": (202, "running"), "resume": (409, "running"),
                "retry": (409, "running"), "extend": (409, "running")},
    "paused": {"cancel": (200, "cancelled"), "pause": (200, "paused"), "resume": (202, "queued"),
               "retry": (409, "paused"), "extend": (409, "paused")},
    "succeeded": {"cancel": (409, "succeeded"), "pause": (409, "succeeded"), "resume": (409, "succeeded"),
                  "retry": (409, "succeeded"), "extend": (202, "queued")},
    "failed": {"cancel": (409, "failed"), "pause": (409, "failed"), "resume": (409, "failed"),
               "retry": (202, "queued"), "extend": (409, "failed")},
    "cancelled": {"cancel": (200, "cancelled"), "pause": (409, "cancelled"), "resume": (409, "cancelled"),
                  "retry": (202, "queued"), "extend": (409, "cancelled")},
}  # fmt: skip


@pytest.fixture
def job_in(client: TestClient, submit: Callable[..., Any], worker: Any) -> Callable[[str], str]:
    def make(state: str) -> str:
        job_id: str = submit()["id"]
        if state == "succeeded":
            worker.run()
        elif state in {"running", "failed"}:
            worker.claim()
            if state == "failed":
                worker.fail()
        elif state in {"paused", "cancelled"}:
            client.post(f"/jobs/{job_id}/{ {'paused': 'pause', 'cancelled': 'cancel'}[state] }")
        assert client.get(f"/jobs/{job_id}").json()["status"] == state
        return job_id

    return make


def ask(client: TestClient, job_id: str, verb: str) -> Any:
    body = {"additional_epochs": 2} if verb == "extend" else None
    return client.post(f"/jobs/{job_id}/{verb}", json=body)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", STATES)
def test_the_contract(
    client: TestClient,
    job_in: Callable[[str], str],
    problem: Callable[..., Any],
    state: str,
    verb: str,
    bell: Any,
) -> None:
    job_id = job_in(state)
    bell.rings.clear()
    code, after = CONTRACT[state][verb]
    response = ask(client, job_id, verb)
    if code == 409:
        assert state in problem(response, 409, "wrong_state")["detail"]
    else:
        assert response.status_code == code
        assert response.json()["status"] == after and response.json()["id"] == job_id
    assert client.get(f"/jobs/{job_id}").json()["status"] == after
    assert bell.rings == (["any"] if after == "queued" and code == 202 else [])


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_request_to_a_running_job_stays_pending(
    client: TestClient, job_in: Callable[[str], str], verb: str
) -> None:
    job_id = job_in("running")
    for _ in range(2):
        response = ask(client, job_id, verb)
        assert response.status_code == 202
        assert response.json()[f"{verb}_requested"] is True
        assert verb in response.json()["status_reason"]
    kinds = [event["type"] for event in client.get(f"/jobs/{job_id}/events").json()["data"]]
    assert kinds.count(f"{verb}_requested") == 1


def test_a_pause_that_was_not_carried_out_yet_is_taken_back(
    client: TestClient, job_in: Callable[[str], str]
) -> None:
    job_id = job_in("running")
    ask(client, job_id, "pause")
    response = ask(client, job_id, "resume")
    assert response.status_code == 202
    assert response.json()["pause_requested"] is False and response.json()["status"] == "running"


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_job_is_not_found(client: TestClient, problem: Callable[..., Any], verb: str) -> None:
    problem(ask(client, "job_00000000000000000000000000000000", verb), 404, "not_found")


def test_an_extension_appends_a_segment(client: TestClient, job_in: Callable[[str], str]) -> None:
    job_id = job_in("succeeded")
    response = client.post(f"/jobs/{job_id}/extend", json={"additional_epochs": 3, "scheduler": "cosine"})
    body = response.json()
    assert response.status_code == 202
    assert [(s["epochs"], s["scheduler"]) for s in body["segments"]] == [(4, "constant"), (3, "cosine")]
    assert body["progress"]["epochs"] == 7 and body["weights_sha256"] is None and body["finished_at"] is None
    assert body["progress"]["percent"] == pytest.approx(400 / 7, abs=0.01)
    assert body["resume_from"]["epoch"] == 4


@pytest.mark.parametrize(
    "body",
    [
        None, {}, {"additional_epochs": 0}, {"additional_epochs": -1}, {"additional_epochs": 10**9},
        {"additional_epochs": "4"}, {"additional_epochs": True}, {"additional_epochs": 1.0},
        {"additional_epochs": 1, "scheduler": "linear"}, {"additional_epochs": 1, "epochs": 2},
    ],
)  # fmt: skip
def test_bad_extensions_are_refused(
    client: TestClient, job_in: Callable[[str], str], problem: Callable[..., Any], body: Any
) -> None:
    job_id = job_in("succeeded")
    problem(client.post(f"/jobs/{job_id}/extend", json=body), 415 if body is None else 422)
    assert client.get(f"/jobs/{job_id}").json()["progress"]["epochs"] == 4


def test_a_retry_refills_the_budget(client: TestClient, job_in: Callable[[str], str], db: Any) -> None:
    job_id = job_in("failed")
    body = ask(client, job_id, "retry").json()
    assert body["error"] is None and body["finished_at"] is None
    assert job_store.get_job(db, job_id).failures == 0
