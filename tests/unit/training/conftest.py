"""Real trainer processes over real pipes, on images that take milliseconds."""

import hashlib
import itertools
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from models.job_spec import JobSpec
from worker.messages import (
    CheckpointRef,
    CheckpointWritten,
    DatasetChecked,
    EpochMetrics,
    Finished,
    LineBuffer,
    Prepared,
    Slot,
    StepMetrics,
    Task,
    decode,
    encode,
)

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PATIENCE_SECONDS = 60.0

Kind = TypeVar("Kind")


@dataclass
class Trainer:
    """A trainer process and the supervisor's end of its pipes."""

    pid: int
    inbox: int
    outbox: int
    log: Path
    messages: list[Any] = field(default_factory=list)
    _lines: LineBuffer = field(default_factory=LineBuffer)
    ended: bool = False
    _seen: int = 0

    def send(self, message: Any) -> None:
        os.write(self.inbox, encode(message))

    def hang_up(self) -> None:
        os.close(self.inbox)
        self.inbox = -1

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait_for(self, wanted: Callable[[Any], bool] | type[Kind]) -> Any:
        """The next message of that type or kind. Fails if the trainer leaves before."""
        accept = (lambda message: isinstance(message, wanted)) if isinstance(wanted, type) else wanted
        while True:
            while self._seen < len(self.messages):
                self._seen += 1
                if accept(self.messages[self._seen - 1]):
                    return self.messages[self._seen - 1]
            if not self._read():
                raise AssertionError(f"the trainer left:\n{self.messages[-3:]}\n{self.log.read_text()}")

    def read_to_end(self) -> list[Any]:
        """Every message until the trainer's end of the pipe is closed."""
        while self._read():
            pass
        return self.messages

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.messages if isinstance(message, kind)]

    def only(self, kind: type[Kind]) -> Kind:
        found = self.all(kind)
        assert len(found) == 1, f"{kind.__name__}: {found}\n{self.messages[-1:]}\n{self.log.read_text()}"
        return found[0]

    def _read(self) -> bool:
        if self.ended:
            return False
        ready, _, _ = select.select([self.outbox], [], [], PATIENCE_SECONDS)
        assert ready, f"nothing from the trainer for {PATIENCE_SECONDS} s\n{self.log.read_text()}"
        data = os.read(self.outbox, 65536)
        self.messages += [decode(line) for line in self._lines.feed(data)]
        self.ended = not data
        return not self.ended


@dataclass
class Job:
    """A task, and what a supervisor would keep of its attempts."""

    task: Task
    start: Callable[[Task], Trainer]
    store: Path

    def attempt(self) -> Trainer:
        return self.start(self.task)

    def run(self) -> Trainer:
        trainer = self.attempt()
        trainer.read_to_end()
        return trainer

    def after(self, trainer: Trainer, **changes: Any) -> "Job":
        """The job as the next attempt finds it: everything that this trainer reported is recorded."""
        refs = [
            CheckpointRef(
                id=written.id,
                path=written.path,
                sha256=written.sha256,
                size_bytes=written.size_bytes,
                epoch=written.epoch,
                step=written.step,
                val_loss=written.val_loss,
            )
            for written in reversed(trainer.all(CheckpointWritten))
        ]
        prepared, checked = trainer.all(Prepared), trainer.all(DatasetChecked)
        task = replace(
            self.task,
            attempt=self.task.attempt + 1,
            checkpoints=refs + self.task.checkpoints,
            numerics=prepared[0].numerics if prepared else self.task.numerics,
            fingerprint=prepared[0].fingerprint if prepared else self.task.fingerprint,
            manifest_path=checked[0].manifest_path if checked else self.task.manifest_path,
        )
        return replace(self, task=replace(task, **changes))

    def file(self, ref: CheckpointRef | CheckpointWritten) -> Path:
        return self.store / ref.path


@dataclass
class Recorded:
    """What users see of a job that ended, over all of its attempts; later rows replace earlier ones."""

    weights: str
    steps: dict[int, tuple[float, float]]
    epochs: dict[int, tuple[float, ...]]

    @classmethod
    def of(cls, *trainers: Trainer) -> "Recorded":
        steps, epochs = {}, {}
        for trainer in trainers:
            for message in trainer.messages:
                if isinstance(message, StepMetrics):
                    steps.update({row.step: (row.loss, row.learning_rate) for row in message.rows})
                if isinstance(message, EpochMetrics):
                    m = message
                    epochs[m.epoch] = (
                        *(m.step, m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy),
                        m.learning_rate,
                    )
        return cls(trainers[-1].only(Finished).weights_sha256, steps, epochs)


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def start(forker: "subprocess.Popen[str]", tmp_path: Path) -> Iterator[Callable[[Task], Trainer]]:
    """Starts a trainer by a fork from the warm parent."""
    trainers: list[Trainer] = []

    def start_trainer(task: Task) -> Trainer:
        number = len(trainers)
        inbox, outbox, log = (tmp_path / f"{name}{number}" for name in ("inbox", "outbox", "log"))
        os.mkfifo(inbox)
        os.mkfifo(outbox)
        assert forker.stdin is not None and forker.stdout is not None
        forker.stdin.write(f"{inbox}\t{outbox}\t{log}\n")
        forker.stdin.flush()
        pid = int(forker.stdout.readline())
        trainer = Trainer(pid, os.open(inbox, os.O_WRONLY), os.open(outbox, os.O_RDONLY), log)
        trainers.append(trainer)
        trainer.send(task)
        return trainer

    yield start_trainer
    for trainer in trainers:
        if not trainer.ended and alive(trainer.pid):
            trainer.kill()
        os.close(trainer.outbox)
        if trainer.inbox >= 0:
            os.close(trainer.inbox)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time; for what the system does by itself, such as ending a process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def paint(path: Path, label: int, number: int) -> None:
    """An image that a classifier can learn, in the format of its suffix."""
    random_ = random.Random(hashlib.sha256(f"{label}/{number}".encode()).digest())
    base = [(200, 60, 60), (60, 60, 200), (60, 200, 60), (200, 200, 60)][label]
    image = Image.new("RGB", (44, 36))
    image.putdata(
        [tuple(max(0, min(255, c + random_.randint(-50, 50))) for c in base) for _ in range(44 * 36)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """29 training and 9 validation images of two classes; batches of 4 leave one over."""
    root = tmp_path_factory.mktemp("painted")
    suffixes = itertools.cycle([".png", ".jpg", ".bmp"])
    for side, counts in (("train", (15, 14)), ("val", (5, 4))):
        for label, name in enumerate(("brick", "sky")):
            for number in range(counts[label]):
                paint(
                    root / side / name / f"{number:02d}{next(suffixes)}",
                    label,
                    number + 100 * (side == "val"),
                )
    return root


@pytest.fixture
def data_root(painted: Path, tmp_path: Path) -> Path:
    """A data root with a dataset ``painted`` that a test may change."""
    root = tmp_path / "data"
    shutil.copytree(painted, root / "painted")
    return root


@pytest.fixture
def new_job(start: Callable[[Task], Trainer], data_root: Path, tmp_path: Path) -> Callable[..., Job]:
    """A job of a small network; ``job(epochs=3, arch=…, early_stopping=…)`` changes any part of its spec."""
    numbers = itertools.count()

    def make(
        *,
        epochs: int = 2,
        arch: str = "mobilenet_v3_small",
        weights: Any = None,
        freeze: Any = "none",
        seed: int = 7,
        dataset: str = "painted",
        loading_workers: int = 0,
        checkpoint_every: dict[str, Any] | None = None,
        early_stopping: dict[str, Any] | None = None,
        park_after_seconds: float = 3600.0,
        **hyperparameters: Any,
    ) -> Job:
        spec = JobSpec.model_validate(
            {
                "dataset": {"path": dataset},
                "model": {"arch": arch, "weights": weights, "freeze": freeze},
                "hyperparameters": {
                    **{"epochs": epochs, "batch_size": 4, "image_size": 32, "augment": "flip"},
                    **hyperparameters,
                },
                "fault_tolerance": {"checkpoint_every": checkpoint_every or {}},
                "early_stopping": early_stopping,
                "seed": seed,
            }
        )
        store = tmp_path / f"store{next(numbers)}"
        task = Task(
            job_id="job_1",
            attempt=1,
            spec=spec.to_json(),
            segments=[{"epochs": epochs, "scheduler": spec.hyperparameters.scheduler}],
            slot=Slot("cpu", threads=2, kind="test", loading_workers=loading_workers),
            numerics=None,
            storage_url=store.as_uri(),
            data_root=str(data_root),
            cache_dir=str(tmp_path / "cache"),
            downloads=False,
            checkpoints=[],
            manifest_path=None,
            verify=False,
            fingerprint=None,
            park_after_seconds=park_after_seconds,
        )
        return Job(task, start, store)

    return make
