"""A seed is a whole schedule: neither load, nor another process, nor what ran before changes it."""

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path
from types import FrameType

import pytest
import uuid_utils

from tests.simulation.kernel import Actor, Kernel
from tests.simulation.schedule import simulator

ROOT = Path(__file__).parents[2]
SEEDS = range(6)
#: Whose answers no seed decides.
REAL = {
    time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns,
    time.clock_gettime, time.thread_time, time.process_time, time.sleep, datetime.now, datetime.utcnow,
    os.urandom, os.getpid, os.fsync, os.open, threading.get_ident, uuid_utils.uuid4, uuid_utils.uuid7,
}  # fmt: skip
OURS = ("models.", "worker.", "tests.simulation.", uuid.__name__, random.__name__)


def test_a_seed_gives_the_same_trace_again() -> None:
    with simulator() as ready:
        first = [ready.trace_of(seed) for seed in SEEDS]
        again = [ready.trace_of(seed) for seed in reversed(SEEDS)]
    assert first == again[::-1]
    assert len(set(first)) == len(SEEDS), "the trace says little"


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    """Above all, sets of strings have another order in each."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--traces", str(SEEDS.start), str(SEEDS.stop)],
        cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "2"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with simulator() as ready:
        assert told.split() == [str(ready.trace_of(seed)) for seed in SEEDS]


def test_nothing_asks_the_real_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock, no identifier, no random number but the schedule's own; a default argument can hide one."""
    asked: set[str] = set()

    def watch(frame: FrameType, event: str, function: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event != "c_call" or not module.startswith(OURS):
            return
        is_global = getattr(function, "__self__", None) is random._inst  # type: ignore[attr-defined]
        if is_global or function in REAL:
            asked.add(f"{module}, line {frame.f_lineno}: {function}")

    def run_watched(kernel: Kernel, actor: Actor, run: object) -> None:
        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            run_unwatched(kernel, actor, run)  # type: ignore[arg-type]
        finally:
            sys.setprofile(before)

    run_unwatched = Kernel._run
    monkeypatch.setattr(Kernel, "_run", run_watched)
    with simulator() as ready:
        for seed in SEEDS:
            ready.run(seed)
    assert not asked
