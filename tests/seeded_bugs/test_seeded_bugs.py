"""Every seeded bug is caught, and code without one raises no alarm."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.seeded_bugs.bugs import BUGS, CHECKERS, Bug

ROOT = Path(__file__).parents[2]
PARTS = ("api", "models", "perdure", "tests", "worker")
TESTS_FAILED, NONE_COLLECTED = 1, 5
Report = Callable[[str, object], None]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code, to be broken."""
    ignored = shutil.ignore_patterns("node_modules", "seeded_bugs")
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / "copy" / part, ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "copy")
    return tmp_path / "copy"


def alarm(checker: str, root: Path) -> bool:
    """Whether it fails there. Skips where this machine cannot run it."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not long"]
    environment = {**os.environ, "PERDURE_TEST_SHRINKS": "no", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [*command, *CHECKERS[checker]],
        cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    summary = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0 and "passed" not in summary:
        pytest.skip(f"{checker}: {summary}")
    assert done.returncode in {0, TESTS_FAILED}, f"{checker} cannot be run:\n{done.stdout[-3000:]}"
    return done.returncode == TESTS_FAILED


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=() if bug.is_quick else pytest.mark.long) for bug in BUGS],
)
def test_is_caught(bug: Bug, copy: Path, record_property: Report) -> None:
    bug.plant(copy)
    began = time.monotonic()
    for checker in bug.checkers:
        if alarm(checker, copy):
            record_property("seeded bug", f"{bug.name:<52} {checker:<22} {time.monotonic() - began:5.1f} s")
            return
    pytest.fail(f"{bug.name}: none of {', '.join(bug.checkers)} saw it")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checker", CHECKERS)
def test_code_without_a_bug_raises_no_alarm(checker: str, copy: Path) -> None:
    assert not alarm(checker, copy)


def test_every_bug_still_applies(copy: Path) -> None:
    for bug in BUGS:
        before = (copy / bug.file).read_text()
        bug.plant(copy)
        compile((copy / bug.file).read_text(), bug.file, "exec")
        (copy / bug.file).write_text(before)
    assert len(BUGS) >= 25 and len({bug.name for bug in BUGS}) == len(BUGS)
