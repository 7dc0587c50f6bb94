"""A file of moments, one a line, that trainings append to and a benchmark follows.

``<CLOCK_MONOTONIC> <job> <run> <event> <number>``: the clock is the same in all processes of a machine, and
``run`` rises with every restart of the job. Lines are short and appended in one write, so they never mix.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import eventually

STEP = "step"  #: an optimizer step is done; its number
SAVED = "saved"  #: a checkpoint is durable; its step
READY = "ready"  #: a worker could start a trainer at once; its process id


@dataclass(frozen=True)
class Moment:
    at: float
    job: str
    run: int
    event: str
    number: int


class StepLogWriter:
    """Appends moments as they happen."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, job: str, run: int, event: str, number: int) -> None:
        os.write(self._descriptor, f"{time.monotonic():.6f} {job} {run} {event} {number}\n".encode())


class StepLog:
    """Follows one file, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.moments: list[Moment] = []
        self._position = 0

    def read(self) -> list[Moment]:
        """Everything so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._position)
                whole, newline, _ = file.read().rpartition(b"\n")  # a torn last line is left for later
            self._position += len(whole) + len(newline)
            self.moments += [_parse(line) for line in whole.decode().splitlines()]
        return self.moments

    def first(
        self, wanted: Callable[[Moment], bool], *, after: int, seconds: float, what: str
    ) -> tuple[int, Moment]:
        """The earliest such moment from the place ``after`` on, with its place, awaited. Raises NotInTime."""
        place = after

        def look() -> tuple[int, Moment] | None:
            nonlocal place
            moments = self.read()
            for here in range(place, len(moments)):
                if wanted(moments[here]):
                    return here, moments[here]
            place = len(moments)
            return None

        return eventually(look, seconds=seconds, what=what)


def _parse(line: str) -> Moment:
    at, job, run, event, number = line.split()
    return Moment(float(at), job, int(run), event, int(number))
