"""A service whose predictions come from a process that does as it is told."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.predicting import Predictor
from tests.servers.waiting import until

#: Stands in for the process with torch: notes its pid and what it is asked, and answers with both.
CHILD = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
assert int(sys.argv[2]) == os.getppid()
assert not [name for name in os.environ if name.startswith("PERDURE_")]
(folder / f"{time.monotonic_ns()}.{os.getpid()}.started").touch()
while line := sys.stdin.buffer.readline():
    asked = json.loads(line)
    image = sys.stdin.buffer.read(asked["image_bytes"])
    asked["image"] = image[:100].decode("latin-1")
    (folder / f"{time.monotonic_ns()}.asked").write_text(json.dumps(asked))
    while (folder / "wait").exists():
        time.sleep(0.005)
    if image == b"crash":
        sys.exit("Traceback: something secret in site-packages")
    said = folder / "say"
    found = {"class": asked["image"], "index": len(image), "probability": 0.5}
    print(said.read_text() if said.exists() else json.dumps({"predictions": [found] * asked["top_k"]}))
    sys.stdout.flush()
"""


@dataclass
class Oracle:
    """What the processes find and leave: they wait while ``wait`` is there, and repeat what ``say`` holds."""

    folder: Path

    def predictor(self, storage_url: str, **limits: float) -> Predictor:
        return Predictor(storage_url, command=[sys.executable, "-c", CHILD, str(self.folder)], **limits)

    @property
    def pids(self) -> list[int]:
        return [int(path.name.split(".")[1]) for path in sorted(self.folder.glob("*.started"))]

    @property
    def asked(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("*.asked"))]

    def await_questions(self, number: int) -> None:
        until(lambda: len(self.asked) == number, what=f"{number} questions")

    def hold(self) -> None:
        (self.folder / "wait").touch()

    def let_go(self) -> None:
        (self.folder / "wait").unlink()

    def say(self, answer: str) -> None:
        (self.folder / "say").write_text(answer)


@pytest.fixture
def oracle(tmp_path: Path) -> Oracle:
    (tmp_path / "oracle").mkdir()
    return Oracle(tmp_path / "oracle")


@pytest.fixture
def limits() -> dict[str, float]:
    """Of the service's Predictor; change it before ``client`` is asked for."""
    return {"limit_seconds": 30.0, "wait_seconds": 20.0, "idle_seconds": 300.0}


@pytest.fixture(autouse=True)
def _with_oracle(oracle: Oracle, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SECRET", "a database's address")
    monkeypatch.setattr("api.app.Predictor", lambda url: oracle.predictor(url, **limits))


@pytest.fixture
def job_id(submit: Callable[..., Any], worker: Any) -> str:
    submit()
    job_id: str = worker.run()
    return job_id


@pytest.fixture
def url(job_id: str) -> str:
    return f"/jobs/{job_id}/predict"
