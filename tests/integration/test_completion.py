"""Completion in real shells: commands, options, and the ids of jobs."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.commands.options import job_ids

SCRIPTS = str(Path(sys.executable).parent)

#: What each shell's own machinery would ask, for the words so far.
BASH = """
source <(perdure --show-completion)
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_perdure_completion perdure
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ }}; _files() {{ }}
_arguments() {{ print -rl -- "$@" }}
eval "$(perdure --show-completion)"
words=({words}); CURRENT=$#words
_perdure_completion
"""


class _Jobs(http.server.BaseHTTPRequestHandler):
    """Answers any GET with a page of two jobs, the second of which is up to no good."""

    def do_GET(self) -> None:
        ids = ("job_0192-a", 'job_1"$(touch canary)`touch canary`')
        rows = [{"id": job_id, "status": "queued", "name": "x", "attempt": 0, "spec": {}} for job_id in ids]
        body = json.dumps({"object": "list", "data": rows, "has_more": False, "last_id": ids[-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not a word."""


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Jobs) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def offered(shell: str, folder: Path, url: str, *words: str) -> str:
    program = {"bash": BASH, "zsh": ZSH}[shell].format(words=" ".join(repr(word) for word in words))
    environment = {
        **os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(folder), "PERDURE_URL": url
    }  # fmt: skip
    command = [shell, "--norc" if shell == "bash" else "-f", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
    assert done.stderr == ""
    return done.stdout


def test_commands_and_options(shell: str, tmp_path: Path, url: str) -> None:
    said = offered(shell, tmp_path, url, "perdure", "re")
    assert "resume" in said and "retry" in said and "extend" not in said
    assert "--scheduler" in offered(shell, tmp_path, url, "perdure", "extend", "--")
    assert "cosine" in offered(shell, tmp_path, url, "perdure", "extend", "--scheduler", "c")


def test_jobs_and_no_traps(shell: str, tmp_path: Path, url: str) -> None:
    assert "job_0192-a" in offered(shell, tmp_path, url, "perdure", "show", "job_")
    said = offered(shell, tmp_path, url, "perdure", "show", "")
    assert "last" in said and "canary" not in said
    assert not (tmp_path / "canary").exists()


def test_installing_it(shell: str, tmp_path: Path) -> None:
    """The option knows the shell that it is typed into."""
    environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    program = "perdure --install-completion; true"  # not the last command, which a shell becomes
    done = subprocess.run(
        [shell, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert f"{shell} completion installed" in done.stdout
    start = (tmp_path / f".{shell}rc").read_text()
    assert (".bash_completions/perdure.sh" if shell == "bash" else ".zfunc") in start


def test_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", "http://127.0.0.1:9")
    assert job_ids() == ["last"]
    monkeypatch.setenv("PERDURE_URL", "no address at all")
    assert job_ids() == ["last"]
