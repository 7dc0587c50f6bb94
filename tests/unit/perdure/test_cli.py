"""The command line: what people type, what they read, and the exit codes that scripts rely on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from perdure import cli, connection
from perdure.client import Perdure

JOB: dict[str, Any] = {
    "id": "job_1",
    "name": "[red]flowers\x1b[2J",
    "status": "succeeded",
    "attempt": 3,
    "recoveries": 2,
    "exact": True,
    "progress": {"epoch": 4, "epochs_done": 4, "epochs": 4, "step": 40, "steps": 40, "percent": 100.0},
    "best": {"epoch": 3, "val_loss": 0.25, "val_accuracy": 0.9, "checkpoint_id": "ckpt_1"},
    "weights_sha256": "ab" * 32,
    "spec": {
        "dataset": {"path": "flowers"},
        "model": {"arch": "efficientnet_b1", "weights": "DEFAULT", "freeze": 2},
    },
    "created_at": "2025-01-01T00:00:00Z",
    "started_at": "2025-01-01T00:00:01Z",
    "finished_at": "2025-01-01T00:01:00Z",
}
EVERY_OPTION = (
    "--data f --arch resnet18 --freeze 7 --weights none --dropout 0.5 --epochs 2 --batch-size 8 "
    "--image-size 64 --lr 0.01 --optimizer sgd --scheduler cosine --augment flip "
    "--seed 3 --priority 5 --name n"
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line against the fake server: exit code, stdout, stderr."""

    def connect() -> Perdure:
        return Perdure("http://server.test", retry_seconds=0.0, transport=httpx2.MockTransport(server))

    for module in ("jobs", "reading", "submit", "watch", "download", "drill", "fleet"):
        monkeypatch.setattr(f"perdure.commands.{module}.connect", connect)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perdure", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err

    return invoke


def perdure(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


# -- help ----------------------------------------------------------------------------------------


def test_help_names_every_command_and_every_exit_code(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for commands in cli.COMMANDS.values():
        for name in commands:
            assert f" {name} " in out
    for words in ("1 the job failed", "2 wrong usage", "3 the server", "4 no server", "130"):
        assert words in " ".join(out.split())


def test_help_imports_neither_an_http_client_nor_anything_heavier() -> None:
    program = (
        "import sys; sys.argv = ['perdure', '--help']\n"
        "from perdure.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx2', 'pydantic', 'stamina', 'torch', 'sqlalchemy', 'fastapi', 'celery', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [name for commands in cli.COMMANDS.values() for name in commands])
def test_every_command_explains_itself(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert len(out.splitlines()) > 5


def test_a_command_that_does_not_exist_is_wrong_usage(run: Run) -> None:
    code, _, err = run("submitt")
    assert code == 2
    assert "submit" in err


def test_version(run: Run) -> None:
    assert run("--version")[1].startswith("perdure 0.")


# -- no server, refusals -------------------------------------------------------------------------


def test_without_a_server_it_says_how_to_start_one() -> None:
    env = {**os.environ, "PERDURE_URL": "http://127.0.0.1:9"}
    result = perdure("list", env=env)
    assert result.returncode == connection.EXIT_UNREACHABLE == 4
    assert "http://127.0.0.1:9" in result.stderr
    assert "PERDURE_URL" in result.stderr
    assert result.stdout == ""


def test_a_refusal_shows_the_servers_words_and_fields(run: Run, server: Any) -> None:
    server.routes["POST /jobs"] = lambda request: server.problem(
        422,
        "validation_failed",
        "The spec is wrong.",
        errors=[
            {"field": "hyperparameters.epochs", "message": "[b]too small[/b]", "code": "x"},
            {"field": "seed", "message": "too big", "code": "x"},
        ],
    )
    code, out, err = run("submit", "--data", "flowers", "--epochs", "0")
    assert code == connection.EXIT_API_ERROR == 3
    assert "The spec is wrong. (422 validation_failed)" in err
    assert "hyperparameters.epochs: [b]too small[/b]" in err
    assert out == ""


# -- submit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (["--data", "flowers"], {"dataset": {"path": "flowers"}}),
        (
            EVERY_OPTION.split(),
            {
                "name": "n",
                "seed": 3,
                "priority": 5,
                "dataset": {"path": "f"},
                "model": {"arch": "resnet18", "freeze": 7, "weights": None, "dropout": 0.5},
                "hyperparameters": {
                    "epochs": 2,
                    "batch_size": 8,
                    "image_size": 64,
                    "lr": 0.01,
                    "optimizer": "sgd",
                    "scheduler": "cosine",
                    "augment": "flip",
                },
            },
        ),
        (
            ["--data", "f", "--freeze", "backbone", "--weights", "w/b1.pth"],
            {"dataset": {"path": "f"}, "model": {"freeze": "backbone", "weights": {"file": "w/b1.pth"}}},
        ),
    ],
)
def test_options_say_only_what_was_said(run: Run, server: Any, arguments: Sequence[str], spec: Any) -> None:
    server.routes["POST /jobs"] = JOB
    code, out, _ = run("submit", *arguments)
    assert code == 0
    assert server.bodies() == [spec]
    assert "job_1" in out


def test_options_override_the_file(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["POST /jobs"] = JOB
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"dataset": {"path": "f"}, "hyperparameters": {"epochs": 4, "lr": 0.1}}))
    assert run("submit", str(file), "--epochs", "9", "--idempotency-key", "k")[0] == 0
    assert server.bodies() == [{"dataset": {"path": "f"}, "hyperparameters": {"epochs": 9, "lr": 0.1}}]
    assert server.requests[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "one JSON object"),
        ('{"model": 3}', "one JSON object"),
        ("{}", "--data FOLDER"),
    ],
)
def test_a_bad_spec_file_is_wrong_usage(
    run: Run, server: Any, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(content)
    code, _, err = run("submit", str(file))
    assert code == 2
    assert words in " ".join(err.split())
    assert server.requests == []


def test_a_missing_spec_file_is_named(run: Run) -> None:
    code, _, err = run("submit", "nowhere.json")
    assert (code, "nowhere.json" in err) == (2, True)


def test_dry_run_queues_nothing(run: Run, server: Any) -> None:
    server.routes["POST /jobs"] = {"id": None, "status": "queued", "warnings": ["The classes are unequal."]}
    code, out, err = run("submit", "--data", "f", "--dry-run")
    assert code == 0
    assert server.requests[0].url.params["dry_run"] == "true"
    assert "nothing was queued" in out
    assert "The classes are unequal." in err


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


# -- watch ---------------------------------------------------------------------------------------


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

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perdure.commands.watch.time.sleep", interrupt)
    code, _, err = run("watch", "job_1")
    assert code == connection.EXIT_INTERRUPTED == 130
    assert "The job goes on." in err
    assert all(request.method == "GET" for request in server.requests)


# -- download ------------------------------------------------------------------------------------


def test_download(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["GET /jobs/job_1/model/content"] = lambda request: httpx2.Response(200, content=b"weights")
    code, out, _ = run("download", "job_1", "--to", str(tmp_path), "--json")
    assert code == 0
    assert Path(json.loads(out)["path"]).read_bytes() == b"weights"
