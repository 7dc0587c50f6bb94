"""The table of faults: every row is there, names tests that exist, and no test of a fault is left out."""

import re

import pytest

from tests.docs.markdown import ROOT, rows

PAGE = ROOT / "docs" / "faults.md"
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
#: Those are about checkers and drills, or about more than the model asks for.
NO_FAULT_OF_THE_MODEL = {"test_cold_start.py", "test_drills.py", "test_frozen_parts.py", "test_kills_long.py"}

TABLE = rows(PAGE.read_text())


def test_there_are_all_34_faults() -> None:
    assert [row[0] for row in TABLE] == [str(number) for number in range(1, 35)]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_every_fault_names_tests_that_exist(row: list[str]) -> None:
    """By the file's name or by the name of a test in it."""
    links = _LINK.findall(row[3])
    assert links, "a guarantee without a test"
    for words, path in links:
        name = f"test_{words.replace(' ', '_')}"
        file = ROOT / path
        assert name == file.stem or f"def {name}(" in file.read_text(), f"{path} has no {name}"


def test_no_test_of_a_fault_is_left_out() -> None:
    named = {path for row in TABLE for _, path in _LINK.findall(row[3])}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/faults/test_*.py")}
    assert files - named == {f"tests/faults/{name}" for name in NO_FAULT_OF_THE_MODEL}
