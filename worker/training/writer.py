"""Checkpoints off the critical path: training stands still for a copy in memory, a thread does the rest.

One write at a time. Whoever wants the next one waits for it (back-pressure rather than growth: there is one
set of buffers, and nothing overtakes anything on its way to the database).
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.storage import Storage
from worker.messages import CheckpointWritten, EpochMetrics, FileRef
from worker.training import checkpoint
from worker.training.checkpoint import WriteProgress
from worker.training.patience import persistently
from worker.training.session import TICK_SECONDS, Session

#: Steps of niceness: a tenth of a core that the steps fill is left for the write, and all of an idle one.
STEPS_ASIDE = 10
#: A write that was ready to run for so long and found no core is waited for.
MOST_SECONDS_STARVED = 10.0


@dataclass(frozen=True)
class Draft:
    """What is to become a checkpoint; nobody changes it while it is written."""

    content: dict[str, Any]
    epochs: list[EpochMetrics]  #: that it seals
    stall_seconds: float  #: that taking it cost


@dataclass(frozen=True)
class Cost:
    """What the last write took."""

    stall_seconds: float
    cpu_seconds: float  #: of the writing thread, which the step may have missed
    write_seconds: float  #: of the try that succeeded: an outage says nothing about the next write


def make_way_for_training() -> None:
    """Let this thread run where the steps leave a core idle: while images are read, between operations.

    It still gets some of a core that others fill, so that a write ends on a crowded machine, too.
    """
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it; then writes cost a little more
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, niceness + STEPS_ASIDE)


def starved_seconds(thread: int) -> float:
    """For how long a thread of this process was ready to run without a core; 0 where no kernel says."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class CheckpointWriter:
    """Belongs to the training thread; only ``_write`` and what it calls run in the other one."""

    def __init__(
        self,
        session: Session,
        storage: Storage,
        job_id: str,
        attempt: int,
        *,
        patience_seconds: float,
        frozen: FileRef | None,
        frozen_tensors: Callable[[], dict[str, Any]],
    ) -> None:
        """A store that refuses for ``patience_seconds`` ends the attempt: another worker may do better.

        ``frozen`` is the stored frozen part if there is one; else it is made of ``frozen_tensors``.
        """
        self._session, self._storage = session, storage
        self._job_id, self._attempt = job_id, attempt
        self._patience_seconds = patience_seconds
        self._frozen, self._frozen_tensors = frozen, frozen_tensors
        # Two threads, of which one works at a time: what has made way once cannot take that back.
        self._in_background = ThreadPoolExecutor(1, "checkpoint", initializer=make_way_for_training)
        self._at_once = ThreadPoolExecutor(1, "checkpoint-at-once")
        self._in_flight: Future[Cost] | None = None
        self._bytes = (0, 0)
        self._starving: tuple[int, float] | None = None  #: the thread at work, and what it had missed before

    def start(self, draft: Draft, *, awaited: bool = False) -> None:
        """Begin to write; nothing else may be in flight. Training makes room for an ``awaited`` write."""
        assert self._in_flight is None  # noqa: S101 - the buffers of the draft would be overwritten
        self._bytes = (0, 0)
        thread = self._at_once if awaited else self._in_background
        self._in_flight = thread.submit(self._write, draft, time.monotonic())

    def finished(self) -> Cost | None:
        """What the write cost, once, when it is done. Raises StorageFailed.

        Waits only for a write that starves: the steps fill every core, and the work at risk would grow
        without bounds. Then it raises CancelRequested, too.
        """
        if self._in_flight is None:
            return None
        if not self._in_flight.done():
            return self.wait() if self._is_starved() else None
        done, self._in_flight = self._in_flight, None
        return done.result()

    def wait(self) -> Cost | None:
        """Until nothing is in flight. Raises StorageFailed and CancelRequested."""
        told = (-1, -1)
        while self._in_flight is not None and not self._in_flight.done():
            if self._bytes != told:  # no byte, no progress: a hung store is noticed by the stall watch
                told = self._bytes
                self._session.progress("checkpoint", *told)
            self._session.raise_if_cancelled()
            wait_for([self._in_flight], timeout=TICK_SECONDS)
        return self.finished()

    def _is_starved(self) -> bool:
        if self._starving is None:
            return False
        thread, before = self._starving
        return starved_seconds(thread) - before > MOST_SECONDS_STARVED

    def close(self) -> None:
        """End the threads; nothing is in flight. A process that ends needs no such thing."""
        self._in_background.shutdown()
        self._at_once.shutdown()

    # -- In the thread that writes -----------------------------------------------------------------

    def _write(self, draft: Draft, began_at: float) -> Cost:
        thread = threading.get_native_id()
        self._starving = thread, starved_seconds(thread)
        cpu_before = time.thread_time()

        def store() -> tuple[tuple[str, FileRef], float]:
            tried_at = time.monotonic()
            return self._store(draft.content), time.monotonic() - tried_at

        (identifier, file), try_seconds = persistently(self._session, self._patience_seconds, store)
        state = checkpoint.state_of(draft.content)
        self._session.send(
            CheckpointWritten(
                id=identifier,
                file=file,
                frozen=self._frozen,
                epoch=state.epoch,
                epochs_done=state.epochs_done,
                step=state.step,
                val_loss=state.val_loss,
                epochs=draft.epochs,
                stall_seconds=draft.stall_seconds,
                write_seconds=time.monotonic() - began_at,
            )
        )
        return Cost(draft.stall_seconds, time.thread_time() - cpu_before, try_seconds)

    def _store(self, content: dict[str, Any]) -> tuple[str, FileRef]:
        if self._frozen is None and (tensors := self._frozen_tensors()):
            self._frozen = checkpoint.write_frozen(
                self._storage, self._job_id, self._attempt, tensors, WriteProgress(self._note)
            )
        return checkpoint.write(
            self._storage, self._job_id, self._attempt, content, self._frozen, WriteProgress(self._note)
        )

    def _note(self, done: int, total: int) -> None:
        self._bytes = (done, total)
