"""``python -m tests.seeded_bugs``: plant every bug, and print the table of docs/checkers.md as it fills.

``--table FILE`` keeps the rows, and goes on after those that are there: bugs can be hunted in several goes.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.seeded_bugs.bug import Bug
from tests.seeded_bugs.harder import HARDER
from tests.seeded_bugs.hunt import copy_code, hunt
from tests.seeded_bugs.named import NAMED

HEAD = "| bug | breaks | caught by | after |\n|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.seeded_bugs", description=__doc__)
    parser.add_argument("--table", type=Path, help="a file for the rows")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin with no other bug after so long")
    given = parser.parse_args()
    told = given.table.read_text() if given.table and given.table.exists() else ""
    began = time.monotonic()
    num_missed = 0
    print(HEAD, told, sep="\n", end="", flush=True)
    for bug in _without_row(told):
        if time.monotonic() - began > given.seconds:
            break
        row = _row(bug)
        num_missed += row is None
        print(row or f"| {bug.name} | {bug.breaks} | **nobody** | |", flush=True)
        if row and given.table:
            with given.table.open("a") as table:
                table.write(f"{row}\n")
    return min(num_missed, 1)


def _without_row(told: str) -> Iterable[Bug]:
    return (bug for bug in [*NAMED, *HARDER] if f"| {bug.name} |" not in told)


def _row(bug: Bug) -> str | None:
    """None if nobody saw it; then what the checkers said goes to standard error."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="seeded-bug-") as folder:
        try:
            with contextlib.redirect_stdout(said):
                caught = hunt(bug, copy_code(Path(folder) / "copy"))
        except (AssertionError, pytest.skip.Exception) as error:
            said.write(f"{bug.name}: {error}\n")
            caught = None
    if caught is None:
        print(said.getvalue(), file=sys.stderr, flush=True)
        return None
    return caught.row()


if __name__ == "__main__":
    sys.exit(main())
