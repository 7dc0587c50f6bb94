"""Every seeded bug is caught, and code without one raises no alarm."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.seeded_bugs.bug import Bug
from tests.seeded_bugs.checkers import CHECKERS, alarm
from tests.seeded_bugs.harder import HARDER
from tests.seeded_bugs.hunt import copy_code, hunt
from tests.seeded_bugs.named import NAMED

BUGS = [*NAMED, *HARDER]
Report = Callable[[str, object], None]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_code(tmp_path / "copy")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=() if bug.is_quick else pytest.mark.hours) for bug in BUGS],
)
def test_is_caught(bug: Bug, copy: Path, record_property: Report) -> None:
    caught = hunt(bug, copy)
    assert caught is not None, f"{bug.name}: none of {', '.join(bug.checkers)} saw it"
    record_property("seeded bug", caught.row())


@pytest.mark.hours
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
