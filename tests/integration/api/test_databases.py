"""What depends on the database: the same answers on SQLite and PostgreSQL, and an outage survived."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api.conftest import SPEC, installation
from tests.servers.postgres import PostgresServer
from tests.servers.waiting import until
from tests.stack import Stack


def test_fifty_threads_with_one_key_make_one_job(service: Stack) -> None:
    before = len(service.rows("/jobs"))

    def post(_: int) -> httpx2.Response:
        return service.http.post("/jobs", json=SPEC, headers={"Idempotency-Key": "fifty"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409} and statuses[201] >= 1, statuses
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(service.rows("/jobs")) == before + 1
    again = service.http.post("/jobs", json=SPEC, headers={"Idempotency-Key": "fifty"})
    assert again.status_code == 201 and again.headers["idempotent-replayed"] == "true"


def test_a_job_through_its_requests(service: Stack) -> None:
    job_id = service.submit({**SPEC, "name": "日本語 '; DROP TABLE jobs; --", "metadata": {"a": "🌷"}})
    job = service.job(job_id)
    assert job["name"].startswith("日本語") and job["metadata"] == {"a": "🌷"}
    assert job["created_at"].endswith("Z") and job["queue_position"] >= 1
    for verb, code, status in [
        ("pause", 200, "paused"), ("resume", 202, "queued"), ("cancel", 200, "cancelled"),
        ("retry", 202, "queued"), ("cancel", 200, "cancelled"), ("resume", 409, "cancelled"),
    ]:  # fmt: skip
        assert service.http.post(f"/jobs/{job_id}/{verb}").status_code == code
        assert service.job(job_id)["status"] == status
    assert [event["type"] for event in service.rows(f"/jobs/{job_id}/events", limit=2)] == [
        "created", "paused", "resumed", "cancelled", "retried", "cancelled",
    ]  # fmt: skip
    for part in ("metrics", "attempts", "checkpoints"):
        assert service.rows(f"/jobs/{job_id}/{part}") == []
    assert service.rows("/workers") == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/job_%00", 404), ("/jobs/%F0%9F%92%A9", 404),
        ("/jobs/job_1/checkpoints/ckpt_%00/content", 404),
        ("/jobs?name=%00", 422), ("/jobs?name=%ED%A0%80", 200), ("/jobs?after=%00", 422),
        ("/workers?after=%00", 422),
        ("/jobs/job_1/events?after=99999999999", 404), ("/jobs/job_1/metrics?after=2147483647", 404),
        ("/jobs?name=%25%27%22%5C", 200), ("/workers?after=%F0%9F%92%A9", 200),
    ],
)  # fmt: skip
def test_values_that_a_database_would_choke_on(service: Stack, path: str, status: int) -> None:
    answer = service.http.get(path)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "body", [{"name": "a\0b"}, {"metadata": {"k": "\0"}}, {"seed": 2**63}, {"priority": 2**31}]
)
def test_specs_that_a_database_would_choke_on(service: Stack, body: dict[str, Any]) -> None:
    assert service.http.post("/jobs", json={**SPEC, **body}).status_code == 422


def test_the_largest_numbers_fit(service: Stack) -> None:
    spec = {
        **SPEC, "seed": 2**63 - 1, "priority": 100,
        "resources": {"max_runtime_seconds": 31_536_000},
        "fault_tolerance": {"exact_wait_seconds": 604_800, "max_failures": 1000},
    }  # fmt: skip
    job = service.job(service.submit(spec))
    assert job["spec"]["seed"] == 2**63 - 1
    service.http.post(f"/jobs/{job['id']}/cancel")


def test_the_database_goes_away_and_comes_back(tmp_path: Path, postgres: PostgresServer) -> None:
    with installation(tmp_path, postgres.create_database()) as stack:
        stack.start_api()
        assert stack.api is not None
        before = stack.submit(SPEC)
        postgres.stop_immediately()
        try:
            for method, path in [("POST", "/jobs"), ("GET", "/jobs"), ("GET", "/health/ready")]:
                headers = {"Idempotency-Key": "away"} if method == "POST" else {}
                answer = stack.http.request(
                    method, path, json=SPEC if method == "POST" else None, headers=headers
                )
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "database_unavailable" and answer.headers["retry-after"]
            assert stack.http.get("/health/live").status_code == 200
            assert stack.api.poll() is None
        finally:
            postgres.start()
        until(lambda: stack.http.get("/health/ready").status_code == 200, seconds=20, what="ready again")
        assert stack.job(before)["status"] == "queued"
        answer = stack.http.post("/jobs", json=SPEC, headers={"Idempotency-Key": "away"})
        assert answer.status_code == 201 and "idempotent-replayed" not in answer.headers
        assert "Traceback" not in stack.log_of(stack.api)


def test_a_broker_that_is_down_is_told_and_stops_nothing(service: Stack) -> None:
    ready = service.http.get("/health/ready")
    assert ready.status_code == 200 and ready.json()["degraded"] == ["broker"]
    assert service.job(service.submit(SPEC))["status"] == "queued"
