"""Processes that a benchmark starts, breaks, and never leaves behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
_PR_SET_PDEATHSIG = 1


class NotInTime(Exception):
    """Something that was awaited did not happen."""


def eventually(look: Callable[[], T | None], *, seconds: float, what: str, every: float = 0.005) -> T:
    """The first answer that is not None. Raises NotInTime."""
    deadline = time.monotonic() + seconds
    while (answer := look()) is None:
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)
    return answer


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A Python process of the checkout, in its own session so that Ctrl-C reaches the benchmark alone."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - a benchmark has one thread
        )


def family(pid: int) -> list[psutil.Process]:
    """The process and all below it, whatever sessions they made for themselves."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """What the process and all below it have taken of the cores so far."""
    total = 0.0
    for process in family(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def kill(processes: Sequence[psutil.Process]) -> float:
    """SIGKILL for all of them; the moment (CLOCK_MONOTONIC) right before the first was sent."""
    before = time.monotonic()
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return before


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that ``start`` started, with all below it, and wait until they are gone."""
    members = family(process.pid)
    for member in members:  # frozen first, so that nothing starts anew while the rest is being killed
        try:
            member.suspend()
        except psutil.NoSuchProcess:
            continue
    members = family(process.pid) or members
    kill(members)
    process.wait(10)
    psutil.wait_procs(members, timeout=10)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and a hangup unwind the benchmark as Ctrl-C does, so that its ``finally`` blocks clean up."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """SIGTERM when the benchmark itself is killed: a worker and torchrun then end what they started."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
