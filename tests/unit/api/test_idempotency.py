"""One effect for one Idempotency-Key, whoever repeats what, and whatever crashes in between."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable

SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_repeated_request_gets_the_first_answer(
    client: TestClient, num_jobs: Callable[[], int], bell: Any
) -> None:
    first = client.post("/jobs", json=SPEC, headers=keyed("k"))
    again = client.post("/jobs", json=SPEC, headers=keyed("k"))
    assert again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert num_jobs() == 1 and bell.rings == ["any"]


def test_the_order_of_keys_and_the_spaces_do_not_matter(client: TestClient) -> None:
    first = client.post("/jobs", json=SPEC, headers=keyed("k"))
    text = '{ "model": {"weights":null},\n "dataset":{"path":"flowers"} }'
    headers = {**keyed("k"), "Content-Type": "application/json"}
    assert client.post("/v1/jobs", content=text, headers=headers).json() == first.json()


@pytest.mark.parametrize("path", ["/jobs", "/jobs/JOB/pause"])
def test_a_key_for_another_request_is_refused(
    client: TestClient, num_jobs: Callable[[], int], problem: Callable[..., Any], path: str
) -> None:
    job = client.post("/jobs", json=SPEC, headers=keyed("k")).json()
    body = {**SPEC, "seed": 1} if path == "/jobs" else None
    response = client.post(path.replace("JOB", job["id"]), json=body, headers=keyed("k"))
    problem(response, 422, "idempotency_key_reused")
    assert num_jobs() == 1


def test_a_request_that_is_still_being_answered_is_not_done_twice(
    client: TestClient,
    num_jobs: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    problem: Callable[..., Any],
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    original = job_store.create_job

    def slow(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert go_on.wait(20)
        return original(*args, **kwargs)

    monkeypatch.setattr(job_store, "create_job", slow)
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.post("/jobs", json=SPEC, headers=keyed("k")))
    )
    thread.start()
    assert entered.wait(20)
    second = client.post("/jobs", json=SPEC, headers=keyed("k"))
    go_on.set()
    thread.join()
    problem(second, 409, "idempotency_in_flight")
    assert second.headers["retry-after"] == "1"
    assert answers[0].status_code == 201 and num_jobs() == 1


def test_fifty_threads_with_one_key_make_one_job(client: TestClient, num_jobs: Callable[[], int]) -> None:
    answers: list[Any] = []
    barrier = threading.Barrier(50)

    def post() -> None:
        barrier.wait()
        answers.append(client.post("/jobs", json=SPEC, headers=keyed("k")))

    threads = [threading.Thread(target=post) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409} and statuses[201] >= 1, statuses
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert num_jobs() == 1


def test_a_refused_request_gives_its_key_back(
    client: TestClient, num_jobs: Callable[[], int], problem: Callable[..., Any]
) -> None:
    bad = {**SPEC, "dataset": {"path": "nowhere"}}
    problem(client.post("/jobs", json=bad, headers=keyed("k")), 422)
    assert client.post("/jobs", json=SPEC, headers=keyed("k")).status_code == 201
    assert num_jobs() == 1


def test_a_crash_between_the_commit_and_the_answer_leaves_one_job(
    client: TestClient, db: Database, num_jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "complete_request", _away)
    first = client.post("/jobs", json=SPEC, headers=keyed("k"))
    assert first.status_code == 201  # what was done is told, though it could not be kept for a repetition
    monkeypatch.undo()
    assert client.post("/jobs", json=SPEC, headers=keyed("k")).status_code == 409  # until the key is given up
    job_store.forget_request(db, "default", "k")
    again = client.post("/jobs", json=SPEC, headers=keyed("k"))
    assert again.status_code == 201 and again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert num_jobs() == 1


def test_an_old_key_with_another_spec_does_not_answer_with_the_old_job(
    client: TestClient, db: Database, problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "complete_request", _away)
    client.post("/jobs", json=SPEC, headers=keyed("k"))
    job_store.forget_request(db, "default", "k")
    response = client.post("/jobs", json={**SPEC, "seed": 7}, headers=keyed("k"))
    problem(response, 422, "idempotency_key_reused")


def _away(*args: Any) -> None:
    raise DatabaseUnavailable


def test_an_unexpected_error_gives_the_key_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, problem: Callable[..., Any]
) -> None:
    def boom(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("boom")

    monkeypatch.setattr(job_store, "create_job", boom)
    problem(client.post("/jobs", json=SPEC, headers=keyed("k")), 500, "internal_error")
    monkeypatch.undo()
    assert client.post("/jobs", json=SPEC, headers=keyed("k")).status_code == 201


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_every_post_takes_a_key(client: TestClient, submit: Callable[..., Any], verb: str) -> None:
    job = submit()
    first = client.post(f"/jobs/{job['id']}/{verb}", headers=keyed(verb))
    again = client.post(f"/jobs/{job['id']}/{verb}", headers=keyed(verb))
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()


def test_an_extension_is_not_repeated(client: TestClient, submit: Callable[..., Any], worker: Any) -> None:
    job_id = submit()["id"]
    worker.run()
    for _ in range(3):
        response = client.post(f"/jobs/{job_id}/extend", json={"additional_epochs": 2}, headers=keyed("e"))
        assert response.status_code == 202
        assert response.json()["progress"]["epochs"] == 6
