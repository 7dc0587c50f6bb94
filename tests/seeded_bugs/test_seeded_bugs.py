"""Every seeded bug is caught, and code without one raises no alarm."""

import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.seeded_bugs.bug import Bug
from tests.seeded_bugs.checkers import CHECKERS, alarm
from tests.seeded_bugs.harder import HARDER
from tests.seeded_bugs.named import NAMED

ROOT = Path(__file__).parents[2]
PARTS = ("api", "models", "perdure", "tests", "worker")
BUGS = [*NAMED, *HARDER]
Report = Callable[[str, object], None]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code, to be broken."""
    ignored = shutil.ignore_patterns("node_modules", "seeded_bugs")
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / "copy" / part, ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "copy")
    return tmp_path / "copy"


def cpu_seconds() -> float:
    """Of the checkers so far: on a busy machine they say more than the clock does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=() if bug.is_quick else pytest.mark.long) for bug in BUGS],
)
def test_is_caught(bug: Bug, copy: Path, record_property: Report) -> None:
    bug.plant(copy)
    for checker in bug.checkers:
        began, cpu_before = time.monotonic(), cpu_seconds()
        if alarm(checker, copy):
            took = f"{time.monotonic() - began:4.0f} s {cpu_seconds() - cpu_before:5.0f} s CPU"
            record_property("seeded bug", f"{bug.name:<52} {bug.breaks:<9} {checker:<21} {took}")
            return
    pytest.fail(f"{bug.name}: none of {', '.join(bug.checkers)} saw it")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checker", CHECKERS)
def test_code_without_a_bug_raises_no_alarm(checker: str, copy: Path) -> None:
    assert not alarm(checker, copy)


def test_every_bug_still_applies(copy: Path) -> None:
    for bug in BUGS:
        originals = {path: path.read_text() for path in (copy / bug.where).rglob("*.py")}
        broken = bug.plant(copy)
        compile(broken.read_text(), bug.name, "exec")
        broken.write_text(originals[broken])


def test_the_bugs_are_many_and_all_invariants_are_among_what_they_break() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 25
    assert {f"I{number}" for number in range(1, 11)} <= {bug.breaks for bug in BUGS}
    assert {checker for bug in BUGS for checker in bug.checkers} == set(CHECKERS)
