"""A limit on the memory of a worker and of all below it: a cgroup of either version, which needs root."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.waiting import until

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_limit(num_bytes: int) -> Iterator[tuple[str, ...]]:
    """A command prefix: what it runs is ended by the kernel beyond this. Skips where that cannot be."""
    is_old = (_ROOT / "memory").is_dir()
    folder = (_ROOT / "memory" if is_old else _ROOT) / f"perdure-test-{os.getpid()}"
    try:
        if not is_old:
            (_ROOT / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if is_old else "memory.max")).write_text(str(num_bytes))
    except OSError as error:
        pytest.skip(f"needs root and a memory cgroup: {error}")
    with contextlib.suppress(OSError):  # where there is swap, it must not help
        swap = ("memory.memsw.limit_in_bytes", num_bytes) if is_old else ("memory.swap.max", 0)
        (folder / swap[0]).write_text(str(swap[1]))
    try:
        yield ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs"))
    finally:
        until(lambda: _removed(folder), seconds=10, what="the cgroup to be empty")


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
