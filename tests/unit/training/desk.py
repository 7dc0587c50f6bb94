"""A writer of checkpoints between a session that nobody listens to and a store that does as it is told."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.errors import StorageFailed
from models.storage import HashingWriter, LocalStorage, StoredObject
from worker.messages import FromTrainer
from worker.training.session import CancelRequested, Session
from worker.training.state import RunState
from worker.training.writer import CheckpointWriter, Draft

PATIENCE_SECONDS = 20.0


class Desk(Session):
    """A session that nobody listens to: it keeps what it is told to say."""

    def __init__(self) -> None:
        super().__init__(-1, -1, park_after_seconds=3600.0)
        self.said: list[FromTrainer] = []
        self.heard: queue.Queue[tuple[str, int, int]] = queue.Queue()
        self.looks: queue.Queue[None] = queue.Queue()
        self.cancelled = False

    def send(self, message: FromTrainer) -> None:
        self.said.append(message)

    def progress(self, phase: str, done: int, total: int) -> None:
        self.heard.put((phase, done, total))

    def raise_if_cancelled(self) -> None:
        self.looks.put(None)
        if self.cancelled:
            raise CancelRequested

    def all(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]


class Store(LocalStorage):
    """Refuses so many writes; holds the others until it is let go, and reports what bytes it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.refusals = 0
        self.tried: list[str] = []
        self.at_work = threading.Semaphore(0)
        self.sizes: queue.Queue[int | None] = queue.Queue()
        self.held = False
        self.on_write: Callable[[], object] = lambda: None

    def write(
        self,
        key: str,
        produce: Callable[[HashingWriter], object],
        on_bytes: Callable[[int], object] = lambda size: None,
    ) -> StoredObject:
        self.tried.append(key)
        self.on_write()
        self.at_work.release()
        if self.refusals:
            self.refusals -= 1
            raise StorageFailed("The disk is full.")
        if self.held:
            for size in iter(lambda: self.sizes.get(timeout=PATIENCE_SECONDS), None):
                on_bytes(size)
        return super().write(key, produce)

    def let_go(self) -> None:
        self.sizes.put(None)


def writer_of(
    desk: Desk, store: Store, patience_seconds: float = 20.0, frozen: dict[str, Any] | None = None
) -> CheckpointWriter:
    return CheckpointWriter(
        desk, store, "job_1", 4, patience_seconds=patience_seconds, frozen=None,
        frozen_tensors=lambda: frozen or {},
    )  # fmt: skip


def draft(step: int = 7) -> Draft:
    content = {**RunState(epochs_done=1, step=step).to_dict(), "model_state_dict": {"w": torch.ones(3)}}
    return Draft(content, epochs=[], stall_seconds=0.25)
