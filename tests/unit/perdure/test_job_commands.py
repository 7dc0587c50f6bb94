"""The commands that show, steer and fetch what is there."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.perdure.command_line import JOB, Run

# -- reading -------------------------------------------------------------------------------------


def test_list_shows_names_as_they_are(run: Run, server: Any) -> None:
    server.routes["GET /jobs"] = server.page([JOB])
    code, out, _ = run("list")
    assert code == 0
    assert "[red]flowers�[2J" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("command", "route", "rows"),
    [
        ("list", "GET /jobs", [JOB]),
        ("metrics", "GET /jobs/job_1/metrics", [{"epoch": 1, "val_accuracy": 0.5}]),
        ("events", "GET /jobs/job_1/events", [{"sequence": 1, "type": "created", "message": "Made."}]),
        ("attempts", "GET /jobs/job_1/attempts", [{"attempt": 1, "end_cause": "trainer_killed"}]),
        ("workers", "GET /workers", [{"id": "wrk_1", "device": "cpu"}]),
    ],
)
def test_lists_as_json_and_as_text(run: Run, server: Any, command: str, route: str, rows: Any) -> None:
    server.routes[route] = server.page(rows)
    job = [] if command in {"list", "workers"} else ["job_1"]
    code, out, _ = run(command, *job, "--json")
    assert code == 0
    for key, value in rows[0].items():
        if not key.endswith("_at") and not isinstance(value, dict):
            assert json.loads(out)[0][key] == value
    code, out, _ = run(command, *job)
    assert code == 0
    assert out.strip()


def test_show_and_last(run: Run, server: Any) -> None:
    server.routes["GET /jobs"] = server.page([JOB])
    server.routes["GET /jobs/job_1"] = JOB
    code, out, _ = run("show", "last")
    assert code == 0
    assert "ab" * 32 in out
    assert "3 (2 recoveries)" in out
    assert "0.9000" in out


def test_last_without_a_job(run: Run, server: Any) -> None:
    server.routes["GET /jobs"] = server.page([])
    code, _, err = run("show", "last")
    assert code == 3
    assert "perdure submit" in err


def test_metrics_as_csv_are_the_servers_bytes(run: Run, server: Any) -> None:
    server.routes["GET /jobs/job_1/metrics"] = lambda request: httpx2.Response(
        200, text="step,loss\r\n1,0.5\r\n"
    )
    code, out, _ = run("metrics", "job_1", "--csv", "--granularity", "step")
    assert code == 0
    assert out == "step,loss\r\n1,0.5\r\n"
    assert dict(server.requests[0].url.params) == {"granularity": "step", "format": "csv"}


# -- steering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_verbs(run: Run, server: Any, verb: str) -> None:
    server.routes[f"POST /jobs/job_1/{verb}"] = {**JOB, "status": "running"}
    code, out, _ = run(verb, "job_1")
    assert code == 0
    assert "job_1" in out
    assert "running" in out


def test_extend(run: Run, server: Any) -> None:
    server.routes["POST /jobs/job_1/extend"] = {**JOB, "status": "queued"}
    assert run("extend", "job_1", "--epochs", "4")[0] == 0
    assert server.bodies() == [{"additional_epochs": 4}]
    assert run("extend", "job_1")[0] == 2


# -- download ------------------------------------------------------------------------------------


def test_download(run: Run, server: Any, tmp_path: Path) -> None:
    """Unless told otherwise, the file that notebooks read."""
    row = {"id": "ckpt_1", "step": 5, "status": "committed", "path": "jobs/job_1/checkpoints/one.pth"}
    server.routes["GET /jobs/job_1/checkpoints"] = server.page([row])
    server.routes["GET /jobs/job_1/checkpoints/ckpt_1/content"] = lambda request: httpx2.Response(
        200, content=b"weights"
    )
    code, out, _ = run("download", "job_1", "--to", str(tmp_path), "--json")
    assert code == 0
    assert Path(json.loads(out)["path"]).name == "one.pth"
    assert (tmp_path / "one.pth").read_bytes() == b"weights"
