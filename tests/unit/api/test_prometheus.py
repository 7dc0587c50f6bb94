"""What a Prometheus that scrapes this service reads."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from api.app import create_app
from models import job_store
from models.database import Database
from models.job_state import EndCause, Fault, JobStatus
from models.settings import Settings


def scrape(client: TestClient) -> dict[str, float]:
    """Values by name and label, as Prometheus' own parser reads them."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_an_empty_installation_says_nought(client: TestClient) -> None:
    read = scrape(client)
    for status in JobStatus:
        assert read[f"perdure_jobs,{status}"] == 0
    for cause in EndCause:
        assert read[f"perdure_attempts,{cause}"] == 0
    assert {read[f"perdure_drills,{fault}"] for fault in Fault} == {0}
    assert read["perdure_queue_oldest_seconds"] == read["perdure_recoveries"] == 0
    assert read["perdure_detection_seconds"] == read["perdure_restart_seconds"] == 0
    assert "perdure_goodput_ratio" not in read
    assert read["process_resident_memory_bytes"] > 1e6


def test_an_installation_at_work(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database
) -> None:
    worker.register()
    for _ in range(3):
        submit()
    worker.run()
    running = worker.claim()
    worker.prepare()
    worker.epoch(1)
    asked = job_store.request_drill(db, running, Fault.STALL)
    job_store.carry_out_drill(db, worker.fence, asked.id)
    for cause in (EndCause.STALLED, EndCause.TRAINER_KILLED):
        after: Any = job_store.restart_attempt(
            db, worker.fence, cause, "Gone.", device="cpu", step=8, detection_seconds=0.1, lease_seconds=60.0
        )
        worker.fence = after.fence
    worker.prepare(from_checkpoint="ckpt_1", step=5)
    job_store.first_step(db, worker.fence)
    read = scrape(client)
    assert [read[f"perdure_jobs,{status}"] for status in ("queued", "running", "succeeded")] == [1, 1, 1]
    assert (read["perdure_workers,online"], read["perdure_workers,lost"]) == (1, 0)
    assert (read["perdure_attempts,trainer_killed"], read["perdure_attempts,stalled"]) == (1, 0)
    assert (read["perdure_drills,stall"], read["perdure_recoveries"], read["perdure_steps_redone"]) == (
        1,
        2,
        3,
    )
    assert read["perdure_detection_seconds"] == pytest.approx(0.2)
    *_, last = job_store.job_attempts(db, running)
    assert last.restart_seconds is not None
    assert read["perdure_restart_seconds"] == pytest.approx(last.restart_seconds)
    assert 0.0 < read["perdure_queue_oldest_seconds"] < 60.0
    assert 0.0 < read["perdure_goodput_ratio"] <= 1.0


def test_a_database_that_is_away_is_no_error_of_ours(
    settings: Settings, bell: Any, problem: Callable[..., Any]
) -> None:
    with TestClient(create_app(settings)) as client:  # its database has no tables
        problem(client.get("/metrics"), 503, "schema_behind")
