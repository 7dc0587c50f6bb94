"""An ext4 of its own in a file, and what a power cut would leave of it."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE_BYTES = 64 * 2**20
#: Without these ext4 is kind to those who forget to fsync: it flushes a file's bytes when it is renamed over
#: another, and everything every five seconds.
UNKIND = "noauto_da_alloc,commit=300"


@dataclass(frozen=True)
class Disk:
    """A mounted image."""

    image: Path
    folder: Path

    def cut(self, copy: Path) -> None:
        """What is on the disk at this instant; whoever writes to it must be frozen.

        The loop device writes into the page cache of the image, where this reads: what ext4 has not submitted
        yet (for want of an fsync) is missing here, and all that it has submitted is here. So nothing is
        hidden and nothing lost by the device's own caching, with direct I/O or without.
        """
        for _ in range(20):
            before = self._writes()
            subprocess.run(["cp", "--sparse=always", str(self.image), str(copy)], check=True)
            # The kernel may write by itself; a copy from before and after that never was on any disk.
            if self._writes() == before:
                return
        raise AssertionError("the disk never came to rest")

    def _writes(self) -> tuple[int, int]:
        """Completed, and in flight."""
        device = Path(_output("findmnt", "-n", "-o", "SOURCE", str(self.folder))).name
        fields = Path(f"/sys/block/{device}/stat").read_text().split()
        return int(fields[4]), int(fields[8])


@contextlib.contextmanager
def new_disk(image: Path, folder: Path) -> Iterator[Disk]:
    """Skips visibly where it cannot be had."""
    missing = [tool for tool in ("mkfs.ext4", "losetup", "findmnt") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs {', '.join(missing) or 'root'}, to mount an ext4 of its own")
    with image.open("wb") as stream:
        stream.truncate(SIZE_BYTES)
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", eager, str(image)], check=True)
    with mounted(image, folder):
        yield Disk(image, folder)


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Replays the journal, as the first mount after a power cut does."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "ext4", "-o", f"loop,{UNKIND}", str(image), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        if "loop" in done.stderr:
            pytest.skip(f"needs loop devices: {done.stderr.strip()}")
        raise AssertionError(done.stderr)
    try:
        yield folder
    finally:
        if subprocess.run(["umount", str(folder)], check=False, capture_output=True).returncode != 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
