"""Metrics by epoch and by step, as JSON and CSV."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import job_store
from models.database import Database

EPOCH_COLUMNS = [
    "epoch", "step", "attempt", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
    "images_per_second", "duration_seconds", "recorded_at",
]  # fmt: skip
STEP_COLUMNS = ["step", "epoch", "attempt", "loss", "learning_rate", "recorded_at"]


@pytest.fixture
def job_id(submit: Callable[..., Any], worker: Any) -> str:
    submit()
    worker.steps_per_epoch = 300
    job_id: str = worker.run(epochs=4)
    return job_id


def test_epochs(client: TestClient, job_id: str) -> None:
    page = client.get(f"/jobs/{job_id}/metrics").json()
    assert [row["epoch"] for row in page["data"]] == [1, 2, 3, 4]
    assert list(page["data"][0]) == EPOCH_COLUMNS
    assert page["has_more"] is False and page["last_id"] == 4
    assert page["data"][1]["val_loss"] == 0.5


def test_steps_come_in_pages(client: TestClient, job_id: str) -> None:
    page = client.get(f"/jobs/{job_id}/metrics?granularity=step").json()
    assert len(page["data"]) == 20 and page["has_more"] and page["last_id"] == 20
    assert list(page["data"][0]) == STEP_COLUMNS
    steps: list[int] = []
    after = 0
    while True:
        page = client.get(f"/jobs/{job_id}/metrics?granularity=step&limit=1000&after={after}").json()
        steps += [row["step"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert steps == list(range(1, 1201))


@pytest.mark.parametrize(
    ("granularity", "columns", "number"), [("epoch", EPOCH_COLUMNS, 4), ("step", STEP_COLUMNS, 1200)]
)
def test_csv_has_all_rows(
    client: TestClient, job_id: str, granularity: str, columns: list[str], number: int
) -> None:
    response = client.get(f"/jobs/{job_id}/metrics?granularity={granularity}&format=csv")
    assert response.status_code == 200 and response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert list(rows[0]) == columns and len(rows) == number
    as_json = client.get(f"/jobs/{job_id}/metrics?granularity={granularity}&limit=1000").json()["data"]
    for text, number_row in zip(rows, as_json, strict=False):
        for column, value in number_row.items():
            # The shortest form that reads back as the same number.
            assert text[column] == value or float(text[column]) == value


def test_csv_in_part(client: TestClient, job_id: str) -> None:
    text = client.get(f"/jobs/{job_id}/metrics?granularity=step&format=csv&limit=2&after=10").text
    assert [row["step"] for row in csv.DictReader(io.StringIO(text))] == ["11", "12"]


def test_a_loss_that_is_not_finite_is_null(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database
) -> None:
    job_id = submit()["id"]
    worker.claim()
    worker.prepare()
    rows = [{"step": 1, "epoch": 1, "loss": None, "learning_rate": 0.1}]
    job_store.record_metrics(
        db, worker.fence, rows, job_store.Position("training", 1, 5, step=1, epochs_done=0)
    )
    assert client.get(f"/jobs/{job_id}/metrics?granularity=step").json()["data"][0]["loss"] is None
    csv_text = client.get(f"/jobs/{job_id}/metrics?granularity=step&format=csv").text
    assert next(csv.DictReader(io.StringIO(csv_text)))["loss"] == ""


@pytest.mark.parametrize("query", ["", "?granularity=step", "?format=csv"])
def test_an_unknown_job_has_no_metrics(client: TestClient, problem: Callable[..., Any], query: str) -> None:
    problem(client.get(f"/jobs/job_0/metrics{query}"), 404, "not_found")
