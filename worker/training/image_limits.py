"""A limit on memory while a stranger's image is decoded, so that a bomb ends as an error, not in a kill."""

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

#: Beyond what the process has already. The largest progressive JPEG that is taken needs about as much.
IMAGE_BYTES = 3 * 2**29


@contextlib.contextmanager
def memory_for_one_image(num_bytes: int = IMAGE_BYTES) -> Iterator[None]:
    """Within it, what would need more memory raises MemoryError (Linux)."""
    if not sys.platform.startswith("linux"):
        yield
        return
    # Of data, not of address space: torch reserves more of that than any limit would leave.
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data_bytes() + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmData:")[2].split()[0])
