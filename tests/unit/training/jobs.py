"""Trainers, jobs and what they leave behind, as these tests handle them."""

import hashlib
import os
import random
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from worker.messages import (
    CheckpointRef,
    CheckpointWritten,
    DatasetChecked,
    EpochMetrics,
    Finished,
    Prepared,
    StepMetrics,
    Task,
)
from worker.wire import LineBuffer, decode, encode

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
    arrivals: list[float] = field(default_factory=list)  #: when each of them came, by the monotonic clock
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

    @property
    def epochs(self) -> list[EpochMetrics]:
        """Those that checkpoints sealed."""
        return [epoch for written in self.all(CheckpointWritten) for epoch in written.epochs]

    def _read(self) -> bool:
        if self.ended:
            return False
        ready, _, _ = select.select([self.outbox], [], [], PATIENCE_SECONDS)
        assert ready, f"nothing from the trainer for {PATIENCE_SECONDS} s\n{self.log.read_text()}"
        data = os.read(self.outbox, 65536)
        self.messages += [decode(line) for line in self._lines.feed(data)]
        self.arrivals += [time.monotonic()] * (len(self.messages) - len(self.arrivals))
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
                file=written.file,
                frozen=written.frozen,
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
        return self.store / ref.file.path


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
                for m in message.epochs if isinstance(message, CheckpointWritten) else ():
                    epochs[m.epoch] = (
                        *(m.step, m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy),
                        m.learning_rate,
                    )
        return cls(trainers[-1].only(Finished).weights_sha256, steps, epochs)


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


def alive(pid: int) -> bool:
    """Zombies count as dead: whether someone collects them is not the trainer's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time; for what the system does by itself, such as ending a process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
