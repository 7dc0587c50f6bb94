"""`perdure drill`, `drain` and `enable`: what people read, and the exit codes."""

import json
from typing import Any

import httpx2
import pytest

from perdure import connection
from tests.unit.perdure.command_line import Run

ASKED = {"id": "drl_1", "job_id": "job_1", "fault": "kill_trainer", "status": "requested"}
CARRIED_OUT = ASKED | {"status": "recovering", "attempt": 2, "carried_out_at": "2025-01-01T00:00:00Z"}
RECOVERED = CARRIED_OUT | {
    "status": "recovered", "detected_seconds": 0.04, "running_again_seconds": 0.61, "steps_redone": 12,
    "exact": True, "recovered": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.commands.drill.POLL_SECONDS", 0.001)


def follows(server: Any, *looks: dict[str, Any]) -> None:
    """The drill is accepted; each look at the list shows the next of these, the last one for good."""
    waiting = list(looks)

    def look(request: httpx2.Request) -> httpx2.Response:
        now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return httpx2.Response(200, json=server.page([{"id": "drl_0", "fault": "stall"}, now]))

    server.routes["POST /jobs/job_1/drill"] = lambda request: httpx2.Response(202, json=ASKED)
    server.routes["GET /jobs/job_1/drills"] = look


def test_a_recovery_in_plain_words(run: Run, server: Any) -> None:
    follows(server, ASKED, CARRIED_OUT, RECOVERED)
    code, out, _ = run("drill", "job_1")
    assert code == 0, out
    assert server.bodies()[0] == {"fault": "kill_trainer"}
    said = " ".join(out.split())
    for words in ("trains again, exactly as before", "detected after 0.04 s", "running again after 0.61 s",
                  "steps done again 12", "exact yes"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("end", "said"),
    [(RECOVERED | {"exact": False}, "not exactly as before"),
     (CARRIED_OUT | {"status": "not_recovered"}, "came to rest"),
     (ASKED | {"status": "dropped"}, "left its worker")],
)  # fmt: skip
def test_anything_else_exits_1(run: Run, server: Any, end: dict[str, Any], said: str) -> None:
    follows(server, ASKED, end)
    code, out, _ = run("drill", "job_1", "--fault", "stall")
    assert code == connection.EXIT_JOB_FAILED == 1
    assert said in out
    assert "stall watch" in out and "30 s" in out, "it says why this one takes its time"


def test_a_recovery_that_takes_too_long(run: Run, server: Any) -> None:
    follows(server, CARRIED_OUT)
    code, out, _ = run("drill", "job_1", "--timeout", "1")
    assert code == 1
    assert "does not train again yet" in out


def test_as_json_it_is_the_report(run: Run, server: Any) -> None:
    follows(server, RECOVERED)
    code, out, _ = run("drill", "job_1", "--json")
    assert code == 0
    assert json.loads(out)["steps_redone"] == 12


def test_where_drills_are_off(run: Run, server: Any) -> None:
    server.routes["POST /jobs/job_1/drill"] = lambda request: server.problem(
        403, "drills_disabled", "Start the service with `perdure up --drills`."
    )
    code, out, err = run("drill", "job_1")
    assert code == connection.EXIT_API_ERROR
    assert "perdure up --drills" in err and out == ""


@pytest.mark.parametrize(("verb", "status"), [("drain", "draining"), ("enable", "online")])
def test_drain_and_enable(run: Run, server: Any, verb: str, status: str) -> None:
    body = {"id": "wrk_1", "status": status}
    server.routes[f"POST /workers/wrk_1/{verb}"] = lambda request: httpx2.Response(202, json=body)
    code, out, _ = run(verb, "wrk_1")
    assert code == 0 and "wrk_1" in out and status in out
    assert json.loads(run(verb, "wrk_1", "--json")[1])["status"] == status


def test_why_a_worker_is_quarantined(run: Run, server: Any) -> None:
    rows = [{"id": "wrk_1", "status": "quarantined", "status_reason": "3 attempts in a row [failed]."}]
    server.routes["GET /workers"] = server.page(rows)
    assert "3 attempts in a row [failed]." in run("workers")[1]
