"""One bug, put into a copy of the code, and the checkers that look for it one after the other."""

import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.seeded_bugs.bug import Bug
from tests.seeded_bugs.checkers import alarm

ROOT = Path(__file__).parents[2]
PARTS = ("api", "models", "perdure", "tests", "worker")


@dataclass(frozen=True)
class Caught:
    """By whom, and how fast: on a busy machine the processor's time says more than the clock."""

    bug: Bug
    checker: str
    seconds: float
    cpu_seconds: float

    def row(self) -> str:
        """A line of the table in docs/checkers.md."""
        name, breaks = self.bug.name, self.bug.breaks
        return f"| {name} | {breaks} | {self.checker} | {self.cpu_seconds:.0f} s |"


def copy_code(to: Path) -> Path:
    """To be broken."""
    ignored = shutil.ignore_patterns("node_modules", "seeded_bugs")
    for part in PARTS:
        shutil.copytree(ROOT / part, to / part, ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def hunt(bug: Bug, copy: Path) -> Caught | None:
    """By the first of its checkers that sees it; None if they are all blind."""
    bug.plant(copy)
    for checker in bug.checkers:
        began, cpu_before = time.monotonic(), _cpu_seconds()
        if alarm(checker, copy):
            return Caught(bug, checker, time.monotonic() - began, _cpu_seconds() - cpu_before)
    return None


def _cpu_seconds() -> float:
    """Of the checkers so far, which are processes of their own."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
