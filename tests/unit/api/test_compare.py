"""GET /jobs/compare: what was asked differently, and what came of it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.comparing import differences
from models.database import Database
from models.tables import jobs


@pytest.fixture
def two(submit: Callable[..., Any], worker: Any) -> list[str]:
    """Four epochs each, at different rates."""
    submit(name="slow", hyperparameters={"lr": 0.001})
    submit(name="fast", priority=-1, hyperparameters={"lr": 0.01, "batch_size": 8})
    return [worker.run(), worker.run()]


def test_specs_results_and_epochs_side_by_side(client: TestClient, two: list[str]) -> None:
    body = client.get("/jobs/compare", params={"ids": ",".join(two)}).json()
    assert body["object"] == "comparison"
    assert [job["id"] for job in body["jobs"]] == two
    assert [job["name"] for job in body["jobs"]] == ["slow", "fast"]
    assert body["spec"] == [
        {"field": "hyperparameters.batch_size", "values": [32, 8]},
        {"field": "hyperparameters.lr", "values": [0.001, 0.01]},
    ]
    for job in body["jobs"]:
        assert job["best"]["epoch"] == job["last"]["epoch"] == job["epochs_done"] == 4
        assert job["last"]["val_loss"] == 0.25
    assert [row["epoch"] for row in body["epochs"]] == [1, 2, 3, 4]
    assert [metrics["val_loss"] for metrics in body["epochs"][1]["metrics"]] == [0.5, 0.5]
    assert body["same_weights"] is True and body["has_more"] is False
    turned = client.get("/jobs/compare", params={"ids": ",".join(reversed(two))}).json()
    assert turned["spec"][1]["values"] == [0.01, 0.001]


def test_what_is_not_there_yet(
    client: TestClient, two: list[str], submit: Callable[..., Any], db: Database
) -> None:
    queued = submit()["id"]
    body = client.get(f"/jobs/compare?ids={queued},{two[0]}").json()
    assert body["jobs"][0]["last"] is None and body["jobs"][0]["best"] is None
    assert body["same_weights"] is None and body["same_dataset"] is None
    assert body["epochs"][0]["metrics"][0] is None and body["epochs"][0]["metrics"][1]["epoch"] == 1
    with db.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.id == two[1]).values(weights_sha256="cd" * 32))
    other = client.get(f"/jobs/compare?ids={two[0]},{two[1]}").json()
    assert other["same_weights"] is False


def test_pages_of_epochs(client: TestClient, two: list[str]) -> None:
    seen, after = [], 0
    while True:
        page = client.get("/jobs/compare", params={"ids": ",".join(two), "limit": 3, "after": after}).json()
        seen += [row["epoch"] for row in page["epochs"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [1, 2, 3, 4]


def test_a_job_that_is_not_there(client: TestClient, two: list[str], problem: Callable[..., Any]) -> None:
    problem(client.get(f"/jobs/compare?ids={two[0]},job_0"), 404, "not_found")
    for other in ("x", "job_%00", "%27", "..;", "job_%C3%A4"):
        problem(client.get(f"/jobs/compare?ids={two[0]},{other}"), 422, "validation_failed")
    problem(client.get("/jobs/compare"), 422, "validation_failed")


def test_fields_of_one_kind_of_spec_alone() -> None:
    """As between a dataset by path and one by id."""
    found = differences(
        [{"dataset": {"path": "a"}, "n": None, "name": 1}, {"dataset": {"id": "b"}, "n": {"x": 1}, "name": 2}]
    )
    assert [(each.field, each.values) for each in found] == [
        ("dataset.path", ["a", None]), ("dataset.id", [None, "b"]), ("n.x", [None, 1]),
    ]  # fmt: skip
