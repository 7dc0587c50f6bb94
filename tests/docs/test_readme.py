"""Every command that the pages print is run, in the order in which a reader meets it.

What is not run literally is said here, and nowhere else:

- the service is started with PERDURE_PORT, and addresses of port 8000 are read as that port;
- `JOB_ID` is the id in the last answer to a POST;
- before a model is downloaded over HTTP the job is awaited, as the page asks;
- `make` targets, `python -m` modules (zipfile aside) and compose profiles are checked to exist.

The reader's home is a temporary folder, with a `.venv` in it and the photographs in `~/photos`.
"""

import importlib.util
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from perdure.cli import COMMANDS, GROUPS
from tests.docs.markdown import PAGES, ROOT, Block, blocks, inline_code, prose
from tests.docs.processes import clean_environment, on_one_core
from tests.images import draw_dataset
from tests.independent import weights_sha256_of
from tests.servers.ports import free_port
from tests.servers.waiting import until
from tests.stack import kill_tree

#: Drawings and transcripts have no language, or `text`.
LANGUAGES = {"", "text", "json", "console", "python"}
PERDURE = {".venv/bin/perdure", "perdure"}
PYTHON = ".venv/bin/python"


@dataclass
class Reader:
    """Somebody who types what the pages say."""

    home: Path
    port: int = field(default_factory=free_port)
    job_id: str = ""
    service: subprocess.Popen[bytes] | None = None
    printed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = clean_environment(HOME=self.home, PERDURE_PORT=self.port, PERDURE_URL=self.url)

    def follow(self, page: Path) -> None:
        for block in blocks(page):
            if block.language == "console":
                for command in block.commands:
                    self._type(command, block)
            elif block.language == "python":
                self.printed[block.text] = self._run([sys.executable, "-c", block.text], block)

    def jobs(self) -> list[dict[str, Any]]:
        return list(httpx.get(f"{self.url}/jobs").json()["data"])

    def stop(self) -> int:
        """Ctrl-C."""
        assert self.service is not None
        self.service.send_signal(signal.SIGINT)
        return self.service.wait(60)

    def _type(self, command: str, block: Block) -> None:
        where = f"{block.page.name}:{block.line}: {command}"
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets, where
        elif words[:2] == ["docker", "compose"]:
            services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
            profile = words[words.index("--profile") + 1]
            assert profile in {name for service in services for name in service.get("profiles", [])}, where
        elif words[0].endswith("python") and words[1] == "-m" and words[2] != "zipfile":
            assert importlib.util.find_spec(words[2]), where
        elif words[0] in PERDURE and words[1] == "up":
            self._start(command)
        else:
            assert words[0] in PERDURE | {"curl", PYTHON}, f"say how this is to be tested: {where}"
            self._enter(command, words, block)

    def _start(self, command: str) -> None:
        self.service = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=(self.home / "up.log").open("wb"), stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=on_one_core(),
        )  # fmt: skip
        until(self._is_ready, seconds=60, what="the service to be ready")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _enter(self, command: str, words: list[str], block: Block) -> None:
        if any("/checkpoints/" in word for word in words):
            until(self._has_succeeded, seconds=120, what=f"{self.job_id} to succeed", every=0.1)
        literal = command.replace("http://127.0.0.1:8000", self.url).replace("JOB_ID", self.job_id)
        output = self._run(["bash", "-c", literal], block)
        if any("/stream" in word for word in words):
            assert '"status":"succeeded","final":true' in output, output[-2000:]
        elif words[0] == "curl" and output:
            answer = json.loads(output)
            assert "detail" not in answer, f"{block.page.name}:{block.line}: {command}\n{output}"
            if "POST" in words:
                self.job_id = answer["id"]

    def _has_succeeded(self) -> bool:
        job = httpx.get(f"{self.url}/jobs/{self.job_id}").json()
        assert job["status"] in {"queued", "running", "succeeded"}, job
        return bool(job["status"] == "succeeded")

    def _run(self, argv: list[str], block: Block) -> str:
        done = subprocess.run(
            argv, cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{block.page.name}:{block.line}: {argv[-1]}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    assert shutil.which("curl"), "the pages use curl; install it"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    assert (tmp_path / ".venv/bin/perdure").is_file(), "the console script is not installed; run `make setup`"
    draw_dataset(tmp_path / "photos/flowers", per_class=4)
    somebody = Reader(tmp_path)
    try:
        yield somebody
    finally:
        if somebody.service is not None:
            kill_tree(somebody.service.pid)


def test_only_known_kinds_of_code_are_fenced() -> None:
    found = {(page.name, block.language) for page in PAGES for block in blocks(page)}
    assert not [pair for pair in found if pair[1] not in LANGUAGES]
    assert ("README.md", "console") in found and ("README.md", "python") in found


def test_json_blocks_are_json() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "json":
                json.loads(block.text)


def test_commands_in_sentences_exist() -> None:
    known = {name for panel in COMMANDS.values() for name in panel} | set(GROUPS)
    for page in PAGES:
        for code in inline_code(prose(page)):
            words = code.split()
            if len(words) > 1 and words[0] in PERDURE and not words[1].startswith("-"):
                assert words[1] in known, f"{page.name}: `{code}`"


@pytest.mark.timeout(600)  # a model is converted to ONNX, by one core that others use as well
def test_the_pages_can_be_followed(reader: Reader) -> None:
    reader.follow(ROOT / "README.md")
    for page in PAGES:
        if page.name != "README.md":
            reader.follow(page)

    jobs = reader.jobs()
    assert len(jobs) >= 3, "over HTTP, from a terminal, from Python"
    assert all(job["status"] == "succeeded" and job["exact"] for job in jobs)
    [weights] = {job["weights_sha256"] for job in jobs}  # the README says that its jobs are the same
    assert weights_sha256_of(reader.home / "model.pth") == weights

    [by_client] = [text for code, text in reader.printed.items() if "from perdure import" in code]
    assert by_client.split()[0] == weights
    [by_hand] = [text for code, text in reader.printed.items() if "def weights_sha256" in code]
    assert by_hand.strip() == weights, "the printed hash function is the one of the service"

    assert reader.stop() == 0
