"""Checkpoints are written one at a time, off the critical path, and in spite of a store that refuses."""

import itertools
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from models.errors import StorageFailed
from models.storage import StoredObject
from tests.unit.training.desk import PATIENCE_SECONDS, Desk, Store, draft, writer_of
from worker.messages import CheckpointDelayed, CheckpointWritten
from worker.training import patience as patience_module
from worker.training.session import CancelRequested
from worker.training.weights_hash import weights_sha256
from worker.training.writer import STEPS_ASIDE


def test_what_is_told_is_there(desk: Desk, store: Store) -> None:
    writer = writer_of(desk, store)
    assert writer.finished() is None and writer.wait() is None, "nothing was begun"
    writer.start(draft())
    cost = writer.wait()
    assert cost is not None and cost.stall_seconds == 0.25 and cost.write_seconds > 0
    (written,) = desk.all(CheckpointWritten)
    assert (written.step, written.epochs_done, written.frozen) == (7, 1, None)
    assert ".attempt-4." in written.file.path and written.id in written.file.path
    assert store.local_path(written.file.path).stat().st_size == written.file.size_bytes
    assert writer.finished() is None, "a cost is learnt once"


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux alone")
def test_only_a_write_that_nobody_waits_for_makes_way(desk: Desk, store: Store) -> None:
    niceness = []
    store.on_write = lambda: niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    writer = writer_of(desk, store)
    for awaited in (False, True, False):
        writer.start(draft(), awaited=awaited)
        writer.wait()
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    aside = min(19, usual + STEPS_ASIDE)
    assert niceness == [aside, usual, aside]


def test_one_write_at_a_time(desk: Desk, store: Store, trainer: ThreadPoolExecutor) -> None:
    """Whoever wants the next one waits: the buffers of the first are still being read."""
    store.held = True
    writer = writer_of(desk, store)
    writer.start(draft(7))
    assert store.at_work.acquire(timeout=PATIENCE_SECONDS)
    assert writer.finished() is None, "and whoever does not wait goes on"
    with pytest.raises(AssertionError):
        writer.start(draft(8))
    waiting = trainer.submit(writer.wait)
    for _ in range(3):
        desk.looks.get(timeout=PATIENCE_SECONDS)
    assert not waiting.done() and not desk.all(CheckpointWritten)
    store.let_go()
    assert waiting.result(PATIENCE_SECONDS) is not None
    store.let_go()
    writer.start(draft(8))
    writer.wait()
    assert [written.step for written in desk.all(CheckpointWritten)] == [7, 8]


@pytest.mark.usefixtures("quick_retries")
def test_what_a_store_refused_does_not_count_as_time_to_write(desk: Desk, store: Store) -> None:
    """Else an outage of minutes would stretch the interval, and the work at risk, long after it."""
    store.refusals = 1
    store.on_write = lambda: time.sleep(0.3 if store.refusals else 0.0)
    writer = writer_of(desk, store)
    writer.start(draft())
    cost, (written,) = writer.wait(), desk.all(CheckpointWritten)
    assert cost is not None and cost.write_seconds <= written.write_seconds - 0.3


@pytest.mark.usefixtures("quick_retries")
def test_a_store_that_refuses_for_a_while(desk: Desk, store: Store) -> None:
    store.refusals = 3
    writer = writer_of(desk, store)
    writer.start(draft())
    writer.wait()
    assert [(d.reason, d.retry_seconds) for d in desk.all(CheckpointDelayed)] == [
        ("The disk is full.", 0.001)
    ] * 3
    (written,) = desk.all(CheckpointWritten)
    assert len(store.tried) == len(set(store.tried)) == 4, "a name that failed is never used again"
    assert written.file.path == store.tried[-1]
    assert desk.said[-1] == written


@pytest.mark.usefixtures("quick_retries")
def test_a_store_that_refuses_for_too_long_ends_the_attempt(desk: Desk, store: Store) -> None:
    store.refusals = 2000
    writer = writer_of(desk, store, patience_seconds=0.05)
    writer.start(draft())
    with pytest.raises(StorageFailed, match="The disk is full"):
        writer.wait()
    assert 1 <= len(desk.all(CheckpointDelayed)) == len(store.tried) - 1, (
        "the last one is not told as a delay"
    )
    assert not desk.all(CheckpointWritten)
    assert writer.finished() is None


def test_without_patience_it_ends_at_once(desk: Desk, store: Store) -> None:
    store.refusals = 1
    writer = writer_of(desk, store, patience_seconds=0.0)
    writer.start(draft())
    with pytest.raises(StorageFailed):
        writer.wait()
    assert len(store.tried) == 1 and not desk.said


def test_pauses_grow_up_to_a_limit() -> None:
    assert list(itertools.islice(patience_module._pauses(), 8)) == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_no_byte_no_progress(desk: Desk, store: Store, trainer: ThreadPoolExecutor) -> None:
    """A store that hangs must look like it, or the stall watch could never tell."""
    store.held = True
    writer = writer_of(desk, store)
    writer.start(draft())
    waiting = trainer.submit(writer.wait)
    assert desk.heard.get(timeout=PATIENCE_SECONDS) == ("checkpoint", 0, 0)
    for size in (1000, 5000):
        store.sizes.put(size)
        assert desk.heard.get(timeout=PATIENCE_SECONDS) == ("checkpoint", size, 2 * size)
        while not desk.looks.empty():
            desk.looks.get_nowait()
        for _ in range(4):  # it looks again and again, and has nothing to tell
            desk.looks.get(timeout=PATIENCE_SECONDS)
        assert desk.heard.empty()
    store.sizes.put(2000)  # the second pass, in which what was written is read again
    assert desk.heard.get(timeout=PATIENCE_SECONDS) == ("checkpoint", 7000, 10_000)
    store.let_go()
    assert waiting.result(PATIENCE_SECONDS) is not None


def test_cancelled_while_waiting(desk: Desk, store: Store, trainer: ThreadPoolExecutor) -> None:
    store.held = True
    writer = writer_of(desk, store)
    writer.start(draft())
    waiting = trainer.submit(writer.wait)
    desk.looks.get(timeout=PATIENCE_SECONDS)
    desk.cancelled = True
    with pytest.raises(CancelRequested):
        waiting.result(PATIENCE_SECONDS)
    store.let_go()


def test_the_frozen_part_is_stored_once(desk: Desk, store: Store) -> None:
    frozen = {"backbone": torch.zeros(4)}
    writer = writer_of(desk, store, frozen=frozen)
    for step in (7, 14):
        writer.start(draft(step))
        writer.wait()
    first, second = desk.all(CheckpointWritten)
    assert first.frozen == second.frozen
    assert len(store.tried) == 3 and store.tried[0] == first.frozen.path
    assert weights_sha256(frozen) in first.frozen.path


@pytest.mark.usefixtures("quick_retries")
def test_the_frozen_part_outlives_a_refusal_of_what_comes_after_it(desk: Desk, store: Store) -> None:
    """It is durable by then: to write it anew with every try would fill a full disk."""
    writer = writer_of(desk, store, frozen={"backbone": torch.zeros(4)})
    real, refused = store.write, iter([True])

    def refuse_the_first_checkpoint(key: str, *rest: Any) -> StoredObject:
        if "/checkpoints/" in key and next(refused, False):
            raise StorageFailed("The disk is full.")
        return real(key, *rest)

    store.write = refuse_the_first_checkpoint  # type: ignore[method-assign]
    writer.start(draft())
    writer.wait()
    assert len([key for key in store.tried if "/frozen/" in key]) == 1
    assert len(desk.all(CheckpointDelayed)) == 1 and len(desk.all(CheckpointWritten)) == 1
