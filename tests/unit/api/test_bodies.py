"""JSON bodies: what is taken, and how what is wrong with one is told."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

GOOD = b'{"dataset": {"path": "flowers"}, "model": {"weights": null}}'


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_content_types_are_taken(client: TestClient, content_type: str) -> None:
    assert client.post("/jobs", content=GOOD, headers={"Content-Type": content_type}).status_code == 201


def test_errors_name_the_fields_and_not_the_members_of_unions(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    spec = {
        "dataset": {"path": 1},
        "model": {"weights": {"fil": "x"}, "freeze": "all"},
        "hyperparameters": {"epochs": "4"},
        "metadata": {"ok": 1},
    }
    body = problem(client.post("/jobs", json=spec), 422, "validation_failed")
    fields = {error["field"] for error in body["errors"]}
    assert fields == {
        "dataset.path", "model.weights", "model.weights.file", "model.weights.fil", "model.freeze",
        "hyperparameters.epochs", "metadata.ok",
    }  # fmt: skip


def test_many_errors_and_long_names_are_cut(client: TestClient, problem: Callable[..., Any]) -> None:
    spec = {f"{i}{'x' * 5000}": 1 for i in range(150)}
    response = client.post("/jobs", content=json.dumps(spec), headers={"Content-Type": "application/json"})
    assert len(problem(response, 422)["errors"]) == 50
    assert len(response.content) < 30_000


def test_what_was_sent_is_not_echoed(client: TestClient, problem: Callable[..., Any]) -> None:
    response = client.post("/jobs", json={"dataset": {"path": "flowers"}, "seed": "s3cret-value"})
    problem(response, 422)
    assert "s3cret-value" not in response.text
