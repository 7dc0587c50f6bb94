"""The command line as a whole: help, what is wrong usage, and the exit codes that scripts rely on."""

import os
import subprocess
import sys
from typing import Any

import pytest

from perdure import cli, connection
from tests.unit.perdure.command_line import Run


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
    command = [sys.executable, "-m", "perdure", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
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
