"""The stream of a job as a client reads it: where it begins, what comes, how it ends."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import streams as streams_module
from tests.unit.api.event_streams import Told, parsed


def read(client: TestClient, job_id: str, position: int | None = None, **params: Any) -> list[Told]:
    """The whole stream of a finished job."""
    headers = {} if position is None else {"Last-Event-ID": str(position)}
    answer = client.get(f"/jobs/{job_id}/stream", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "no-store" in answer.headers["cache-control"]
    assert answer.text.startswith("retry: ")
    return parsed(answer.text)


@pytest.fixture
def finished(client: TestClient, submit: Any, worker: Any) -> str:
    submit()
    job_id: str = worker.run(epochs=2)
    return job_id


def test_without_a_position_it_begins_with_the_job_as_it_stands(client: TestClient, finished: str) -> None:
    [status] = read(client, finished)
    assert (status["event"], status["status"], status["final"]) == ("status", "succeeded", True)
    assert status["job"] == client.get(f"/jobs/{finished}").json()
    assert status["id"] == read(client, finished, after=0)[-1]["id"]


def test_from_0_it_is_the_whole_history_in_one_order(client: TestClient, finished: str) -> None:
    told = read(client, finished, after=0)
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert {event["event"] for event in told} == {"metric", "status", "attempt", "checkpoint", "event"}
    assert told[-1]["event"] == "status" and told[-1]["final"] is True
    assert [e["granularity"] for e in told if e["event"] == "metric"] == ["step", "epoch"] * 2


def test_what_comes_is_what_the_lists_show(client: TestClient, finished: str) -> None:
    told = read(client, finished, after=0)

    def of(kind: str, *keys: str) -> list[Told]:
        return [{k: v for k, v in e.items() if k not in keys} for e in told if e["event"] == kind]

    def listed(path: str) -> list[Told]:
        rows: list[Told] = client.get(f"/jobs/{finished}/{path}").json()["data"]
        return rows

    assert of("event", "id", "event") == listed("events")
    assert of("attempt", "id", "event")[-1:] == listed("attempts")
    epochs = [row for row in of("metric", "id", "event") if row.pop("granularity") == "epoch"]
    assert epochs == listed("metrics")
    committed = [{k: v for k, v in row.items() if k != "id"} for row in listed("checkpoints")][::-1]
    assert of("checkpoint", "id", "event") == committed
    steps = [row for e in told if e.get("granularity") == "step" for row in e["rows"]]
    shown = listed("metrics?granularity=step")
    assert steps == [{k: row[k] for k in ("step", "epoch", "loss", "learning_rate")} for row in shown]


def test_from_any_number_it_is_the_rest(client: TestClient, finished: str) -> None:
    told = read(client, finished, after=0)
    for position in range(1, len(told)):
        assert read(client, finished, position) == told[position:]
    assert read(client, finished, 3, after=0) == told[3:], "where a client has come to counts more"
    assert read(client, finished, after=4) == told[4:]


def test_who_has_everything_of_a_finished_job_need_not_come_again(client: TestClient, finished: str) -> None:
    last = read(client, finished)[-1]["id"]
    answer = client.get(f"/jobs/{finished}/stream", headers={"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.text) == (204, "")


def test_a_number_that_was_never_given_begins_anew(client: TestClient, finished: str) -> None:
    [status] = read(client, finished, 1_000_000)
    assert status["job"]["id"] == finished and status["id"] < 1_000_000


def test_pages_of_history_join_without_a_seam(
    client: TestClient, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(client, finished, after=0)
    monkeypatch.setattr(streams_module, "PAGE", 3)
    monkeypatch.setattr("api.routes.stream.PAGE", 3)
    assert read(client, finished, after=0) == whole


@pytest.mark.parametrize("position", ["-1", "abc", "1.5", "9" * 30, "1\u00b2"])
def test_a_position_that_is_none_is_refused(
    client: TestClient, finished: str, problem: Callable[..., Any], position: str
) -> None:
    path = f"/jobs/{finished}/stream"
    problem(client.get(path, headers={"Last-Event-ID": position.encode()}), 422, "validation_failed")
    problem(client.get(path, params={"after": position}), 422, "validation_failed")


def test_of_no_job_there_is_no_stream(client: TestClient, problem: Callable[..., Any]) -> None:
    for job_id in ("job_1", "..", "job_" + "x" * 100):
        for headers in ({}, {"Last-Event-ID": "3"}):
            problem(client.get(f"/jobs/{job_id}/stream", headers=headers), 404, "not_found")
