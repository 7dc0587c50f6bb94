"""Which process descends from which, and the end of a whole tree of them."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path


def parents() -> dict[int, int]:
    """Every process and its parent, as of now."""
    if Path("/proc/self/stat").exists():
        return dict(filter(None, map(_from_proc, Path("/proc").glob("[0-9]*/stat"))))
    listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return {int(pid): int(parent) for pid, parent in (line.split() for line in listing.splitlines())}


def descendants(root: int) -> list[int]:
    """Every process below ``root``, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def kill_tree(root: int) -> list[int]:
    """SIGKILL ``root`` and all that descends from it, at once; the processes that were hit."""
    victims = [root, *descendants(root)]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return victims


def _from_proc(stat: Path) -> tuple[int, int] | None:
    try:
        # The program's name is in parentheses and may hold spaces and parentheses of its own.
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:  # it ended while we looked
        return None
    return int(stat.parent.name), int(fields[1])
