"""A write that finds no core among the steps that it makes way for."""

import hashlib
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.training.desk import PATIENCE_SECONDS, Desk, Store, draft, writer_of
from worker.training import writer as writer_module
from worker.training.writer import MOST_SECONDS_STARVED, starved_seconds


def test_a_write_that_starves_is_waited_for(
    desk: Desk, store: Store, trainer: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that fill every core would put off its end, and with it the end of the risk, for ever."""
    missed = [1000.0]  # before this write began
    monkeypatch.setattr(writer_module, "starved_seconds", lambda thread: missed[0])
    store.held = True
    writer = writer_of(desk, store)
    writer.start(draft())
    assert store.at_work.acquire(timeout=PATIENCE_SECONDS)
    missed[0] += MOST_SECONDS_STARVED
    assert writer.finished() is None, "until then training goes on"
    missed[0] += 0.1
    waiting = trainer.submit(writer.finished)
    for _ in range(3):
        desk.looks.get(timeout=PATIENCE_SECONDS)
    assert not waiting.done()
    store.let_go()
    assert waiting.result(PATIENCE_SECONDS) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel tells")
def test_who_shares_a_core_starves() -> None:
    def work() -> float:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread
        ends_at = time.thread_time() + 0.03
        while time.thread_time() < ends_at:
            hashlib.sha256(bytes(2**20))  # without the interpreter's lock
        return starved_seconds(threading.get_native_id())

    with ThreadPoolExecutor(3) as pool:
        starved = [pool.submit(work) for _ in range(3)]
        assert sum(future.result() for future in starved) > 0.01
    assert starved_seconds(2**30) == 0.0
