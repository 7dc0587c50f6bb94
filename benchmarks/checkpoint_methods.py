"""Ways to save the same training state: Perdure's own, and what a script would do instead."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, async_save

from models.storage import LocalStorage
from worker.messages import CheckpointWritten, FromTrainer
from worker.training.learner import Learner
from worker.training.session import Session
from worker.training.state import RunState
from worker.training.writer import CheckpointWriter, Draft

clock = time.perf_counter


@dataclass(frozen=True)
class Saved:
    """What one checkpoint took, counted from the moment at which training had to stop for it."""

    stall_seconds: float  #: until training may go on
    durable_seconds: float  #: until the method calls it done
    size_bytes: int


class Method(Protocol):
    """One way to save; ``save`` leaves its files below ``folder``, which is empty at the start."""

    def save(self, folder: Path) -> Saved: ...


class Perdure:
    """``Learner.snapshot`` and ``CheckpointWriter`` as the trainer uses them, until it reports the file."""

    def __init__(self, learner: Learner, *, is_first: bool = False) -> None:
        """``is_first``: as if each checkpoint were the first of its job, which stores the frozen part too."""
        self._learner, self._is_first = learner, is_first
        self._session = _Listener()
        self._state = RunState(epochs_done=1, step=1, val_loss=0.0)
        self._writer: CheckpointWriter | None = None

    def save(self, folder: Path) -> Saved:
        writer = self._writer_to(folder)
        began_at = clock()
        content = {
            **self._learner.snapshot(),
            **self._state.to_dict(),
            "spec": {},
            "segments": [],
            "classes": [],
            "fingerprint": {},
        }
        writer.start(Draft(content, [], stall_seconds=0.0))
        stalled = clock() - began_at
        writer.wait()
        written, at = self._session.written
        size = written.file.size_bytes
        if self._is_first and written.frozen is not None:
            size += written.frozen.size_bytes
        return Saved(stalled, at - began_at, size)

    def _writer_to(self, folder: Path) -> CheckpointWriter:
        if self._is_first and self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._writer = CheckpointWriter(
                self._session,
                LocalStorage(folder),
                "job_1",
                1,
                patience_seconds=0.0,
                frozen=None,
                frozen_tensors=self._learner.frozen_tensors,
            )
            if not self._is_first:
                self._store_frozen_part()
        return self._writer

    def _store_frozen_part(self) -> None:
        """Before the clock runs: later checkpoints only refer to it."""
        assert self._writer is not None
        self._writer.start(Draft({**self._learner.snapshot(), **self._state.to_dict()}, [], 0.0))
        self._writer.wait()


class _Listener(Session):
    """A session without a supervisor; keeps the last word about a checkpoint, and when it was said."""

    written: tuple[CheckpointWritten, float]

    def __init__(self) -> None:
        super().__init__(-1, -1, park_after_seconds=float("inf"))

    def send(self, message: FromTrainer) -> None:
        if isinstance(message, CheckpointWritten):
            self.written = message, clock()


@dataclass(frozen=True)
class TorchSave:
    """What most scripts do. After a power failure the file may be empty."""

    state: Callable[[], dict[str, Any]]

    def save(self, folder: Path) -> Saved:
        began_at = clock()
        torch.save(self.state(), folder / "checkpoint.pth")
        took = clock() - began_at
        return Saved(took, took, _size_of(folder))


@dataclass(frozen=True)
class TorchSaveDurably:
    """What careful scripts do: the old file or the whole new one, whatever happens."""

    state: Callable[[], dict[str, Any]]

    def save(self, folder: Path) -> Saved:
        temporary = folder / "checkpoint.partial"
        began_at = clock()
        with temporary.open("wb") as file:
            torch.save(self.state(), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / "checkpoint.pth")
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        took = clock() - began_at
        return Saved(took, took, _size_of(folder))


class AsyncSave:
    """``torch.distributed.checkpoint.async_save`` for one process, with the settings that served it best."""

    def __init__(self, state: Callable[[], dict[str, Any]]) -> None:
        self._state = state
        # Kept from save to save, so that it reuses its buffers. Memory is pinned only where there is a
        # GPU, and memory shared between processes is slower to fill and of no use to a thread.
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=torch.cuda.is_available(),
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=torch.cuda.is_available(),
            )
        )

    def save(self, folder: Path) -> Saved:
        began_at = clock()
        done = async_save(
            self._state(),
            storage_writer=FileSystemWriter(folder / "checkpoint", thread_count=torch.get_num_threads()),
            async_stager=self._stager,
            async_checkpointer_type=AsyncCheckpointerType.THREAD,
            no_dist=True,
        )
        stalled = clock() - began_at
        cast(Future[Any], done).result()
        return Saved(stalled, clock() - began_at, _size_of(folder))


def methods(learner: Learner, *, has_frozen_part: bool) -> dict[str, Method]:
    """By name. All but Perdure's save the whole state, whatever of it may have changed."""

    def state() -> dict[str, Any]:
        optimizer = learner._optimizer  # a script has its optimizer at hand
        return {
            "model_state_dict": learner.network.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "epoch": 1,
        }

    first: dict[str, Method] = {"perdure_first": Perdure(learner, is_first=True)} if has_frozen_part else {}
    return {
        **first,
        "perdure": Perdure(learner),
        "torch_save": TorchSave(state),
        "torch_save_fsync": TorchSaveDurably(state),
        "dcp_async_save": AsyncSave(state),
    }


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
