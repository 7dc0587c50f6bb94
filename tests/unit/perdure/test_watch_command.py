"""`perdure watch`: what happens to a job, told as it happens, and how it ended as an exit code."""

import json
from typing import Any

import httpx2
import pytest

from perdure import connection
from tests.unit.perdure.command_line import JOB, Run


def watched(server: Any, status: str) -> None:
    server.routes["GET /jobs/job_1"] = {
        **JOB,
        "status": status,
        "error": {"code": "no_progress", "message": "Gave up."},
    }
    server.routes["GET /jobs/job_1/attempts"] = server.page(
        [
            {
                "attempt": 1,
                "end_cause": "trainer_killed",
                "ended_at": "2025-01-01T00:00:05Z",
                "detection_seconds": 0.03,
            },
            {
                "attempt": 2,
                "first_step_at": "2025-01-01T00:00:06Z",
                "restart_seconds": 0.7,
                "steps_redone": 12,
                "end_cause": "finished",
                "ended_at": "2025-01-01T00:00:06Z",
            },
        ]
    )
    server.routes["GET /jobs/job_1/metrics"] = server.page([{"epoch": 4, "val_accuracy": 0.875}])
    stream(server, ("status", {"status": status, "final": status != "running"}))


def stream(server: Any, *told: tuple[str, dict[str, Any]]) -> None:
    body = "".join(
        f"event: {kind}\ndata: {json.dumps(data)}\nid: {number}\n\n"
        for number, (kind, data) in enumerate(told, start=7)
    )
    server.routes["GET /jobs/job_1/stream"] = lambda request: httpx2.Response(200, content=body)


def test_watch_tells_recoveries_and_the_result_without_control_characters(run: Run, server: Any) -> None:
    watched(server, "succeeded")
    code, out, _ = run("watch", "job_1")
    assert code == 0
    assert "attempt 1 ended: trainer killed, noticed after 0.03 s" in out
    assert "attempt 2 trains again after 0.70 s, 12 steps to do again" in out
    assert "val accuracy 0.8750" in out
    assert "\x1b" not in out
    assert "\r" not in out


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_watch_of_a_job_that_failed_exits_1(run: Run, server: Any, status: str) -> None:
    watched(server, status)
    code, out, _ = run("watch", "job_1")
    assert code == connection.EXIT_JOB_FAILED == 1
    assert "Gave up." in out


def test_watch_as_json_is_one_line_a_change(run: Run, server: Any) -> None:
    watched(server, "succeeded")
    lines = [json.loads(line) for line in run("watch", "job_1", "--json")[1].splitlines()]
    assert [line["change"] for line in lines] == ["AttemptEnded", "Recovered", "EpochDone", "StatusChanged"]
    assert lines[-1]["job"]["id"] == "job_1"


def test_ctrl_c_leaves_the_job_alone(run: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(server, "running")

    def interrupt(told: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("perdure.stream.events", interrupt)
    code, _, err = run("watch", "job_1")
    assert code == connection.EXIT_INTERRUPTED == 130
    assert "The job goes on." in err
    assert all(request.method == "GET" for request in server.requests)


def test_what_happens_meanwhile_comes_from_the_stream(run: Run, server: Any) -> None:
    watched(server, "running")
    running = server.routes["GET /jobs/job_1"]
    answers = iter([running, running, {**running, "status": "succeeded"}])
    server.routes["GET /jobs/job_1"] = lambda request: httpx2.Response(200, json=next(answers))
    again = {"attempt": 2, "first_step_at": "2025-01-01T00:00:06Z", "end_cause": "stalled"}
    stream(
        server,
        ("status", {"status": "running"}),
        ("metric", {"granularity": "epoch", "epoch": 4}),  # seen at the first look
        ("metric", {"granularity": "step", "step": 50, "epoch": 5, "rows": []}),
        ("metric", {"granularity": "epoch", "epoch": 5, "val_accuracy": 0.75}),
        ("attempt", again),
        ("status", {"status": "succeeded", "final": True}),
    )
    code, out, _ = run("watch", "job_1", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    changes = [line["change"] for line in lines]
    assert changes[3:] == ["StatusChanged", "EpochDone", "AttemptEnded", "StatusChanged"]
    assert lines[4]["metrics"]["epoch"] == 5 and lines[5]["attempt"]["end_cause"] == "stalled"
    assert lines[6]["job"]["status"] == "succeeded" and code == 0
