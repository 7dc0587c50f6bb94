"""The commands that show, steer and fetch what is there."""

import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.perdure.command_line import JOB, Run

COMMITTED = {"id": "ckpt_1", "step": 5, "status": "committed", "path": "jobs/job_1/checkpoints/one.pth"}

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
        (
            "attempts",
            "GET /jobs/job_1/attempts",
            [{"attempt": 2, "end_cause": "trainer_killed", "from_checkpoint": "ckpt_1"}],
        ),
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


def test_csv_and_json_at_once_is_wrong_usage(run: Run, server: Any) -> None:
    assert run("metrics", "job_1", "--csv", "--json")[0] == 2
    assert server.requests == []


def test_why_a_job_failed_is_said_once(run: Run, server: Any) -> None:
    error = {"code": "dataset_invalid", "message": "Cannot read 5.png."}
    server.routes["GET /jobs/job_1"] = JOB | {
        "status": "failed", "error": error, "status_reason": error["message"],
    }  # fmt: skip
    assert run("show", "job_1")[1].count("Cannot read 5.png.") == 1


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
    assert run("extend", "job_1", "--epochs", "2", "--scheduler", "cosine")[0] == 0
    assert server.bodies() == [{"additional_epochs": 4}, {"additional_epochs": 2, "scheduler": "cosine"}]
    assert run("extend", "job_1")[0] == 2
    assert run("extend", "job_1", "--epochs", "2", "--scheduler", "linear")[0] == 2


# -- download ------------------------------------------------------------------------------------


def test_download(run: Run, server: Any, tmp_path: Path) -> None:
    """Unless told otherwise, the file that notebooks read."""
    server.routes["GET /jobs/job_1/checkpoints"] = server.page([COMMITTED])
    server.routes["GET /jobs/job_1/checkpoints/ckpt_1/content"] = lambda request: httpx2.Response(
        200, content=b"weights"
    )
    code, out, _ = run("download", "job_1", "--to", str(tmp_path), "--json")
    assert code == 0
    assert Path(json.loads(out)["path"]).name == "one.pth"
    assert (tmp_path / "one.pth").read_bytes() == b"weights"


def test_a_folder_that_is_not_there_yet(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["GET /jobs/job_1/checkpoints"] = server.page([COMMITTED])
    path = "GET /jobs/job_1/checkpoints/ckpt_1/content"
    server.routes[path] = lambda request: httpx2.Response(200, content=b"weights")
    assert run("download", "job_1", "--to", f"{tmp_path}/models/")[0] == 0
    assert (tmp_path / "models/one.pth").read_bytes() == b"weights"


# -- editing -------------------------------------------------------------------------------------


def test_list_by_metadata(run: Run, server: Any) -> None:
    server.routes["GET /jobs"] = server.page([JOB])
    assert run("list", "--metadata", "team=vision", "--metadata", "run=a=b")[0] == 0
    asked = dict(server.requests[0].url.params)
    assert (asked["metadata[team]"], asked["metadata[run]"]) == ("vision", "a=b")
    assert run("list", "--metadata", "team")[0] == 2


def test_clone(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["GET /jobs"] = server.page([JOB])
    server.routes["POST /jobs/job_1/clone"] = {
        **JOB,
        "id": "job_2",
        "status": "queued",
        "warnings": ["Careful."],
    }
    overrides = tmp_path / "overrides.json"
    overrides.write_text('{"hyperparameters": {"lr": 0.1}, "seed": 1}')
    code, out, err = run(
        "clone",
        "last",
        str(overrides),
        "--lr",
        "0.2",
        "--set",
        "model.weights=null",
        "--set",
        "model.arch=vit_b_16",
    )
    assert code == 0
    assert "job_2" in out and "Careful." in err
    expected = {"hyperparameters": {"lr": 0.2}, "seed": 1, "model": {"weights": None, "arch": "vit_b_16"}}
    assert server.bodies()[-1] == {"overrides": expected}
    assert server.requests[-1].headers["idempotency-key"]
    code, out, _ = run("clone", "job_1", "--json")
    assert json.loads(out)["id"] == "job_2" and server.bodies()[-1] == {"overrides": {}}


@pytest.mark.parametrize("wrong", ["seed", "=1", ".lr=1", "a..b=1", "seed.x=1"])
def test_clone_with_settings_that_name_nothing(run: Run, wrong: str) -> None:
    code, _, err = run("clone", "job_1", "--set", "seed=1", "--set", wrong)
    assert code == 2 and err.strip()


def test_edit(run: Run, server: Any) -> None:
    server.routes["PATCH /jobs/job_1"] = JOB
    assert run("edit", "job_1", "--priority", "5", "--metadata", "a=1", "--remove", "b", "--name", "")[0] == 0
    assert server.bodies() == [{"name": None, "priority": 5, "metadata": {"a": "1", "b": None}}]
    assert run("edit", "job_1")[0] == 2


def test_delete(run: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.routes["DELETE /jobs/job_1"] = lambda request: httpx2.Response(204)
    code, out, _ = run("delete", "job_1", "--yes")
    assert code == 0 and "job_1 is deleted" in out
    assert json.loads(run("delete", "job_1", "--json")[1]) == {"id": "job_1", "deleted": True}
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("delete", "job_1")[0] == 1, "nobody is there to say yes"
    assert [request.method for request in server.requests] == ["DELETE", "DELETE"]
