"""I2 and fault 32, when the power fails: what was recorded is on the disk, whole.

A process writes checkpoints through the store, or jobs through SQLite, onto an ext4 of its own. At random
moments it is frozen, the disk is copied as it is, and the copy is mounted, as after a power cut.
"""

import contextlib
import hashlib
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.storage import TEMPORARY
from tests.faults.disks import Disk, mounted, new_disk
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]
#: A cut falls so long after something was recorded: at once, when only a folder's fsync stands between it and
#: oblivion, or anywhere in a write that comes later.
DELAYS_SECONDS = (0.0, 0.1)


@dataclass
class Writer:
    """The process that writes, and what would be in the database by its words."""

    process: "subprocess.Popen[bytes]"
    recorded: dict[str, tuple[int, str]] = field(default_factory=dict)
    num_recorded: int = 0
    _buffer: bytes = b""

    def read(self, seconds: float) -> bool:
        """Whatever it said by now, or the first that it says in that time; whether there was something."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        assert data, "the writer is gone"
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            word, path, *rest = line.decode().split()
            if word == "recorded":
                self.recorded[path] = (int(rest[0]), rest[1])
                self.num_recorded += 1
            else:
                del self.recorded[path]
        return True

    def await_records(self, count: int) -> None:
        goal = self.num_recorded + count
        while self.num_recorded < goal:
            assert self.read(60.0), "nothing was written for a minute"

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """With every word noted that it said before."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: stat.read_text().rpartition(") ")[2][0] == "T", seconds=20, what="it to freeze")
        while self.read(0):
            pass
        yield
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with new_disk(tmp_path / "disk.img", tmp_path / "disk") as disk:
        yield disk


@contextlib.contextmanager
def writing(module: str, *arguments: object) -> Iterator[Writer]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Writer(process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("cuts", [16, pytest.param(300, marks=pytest.mark.long)])
def test_what_was_recorded_outlives_power_cuts(disk: Disk, tmp_path: Path, cuts: int) -> None:
    seed = random.randrange(2**32)
    random_ = random.Random(seed)
    in_mid_write = 0
    with writing("committing", disk.folder, seed) as writer:
        for number in range(cuts):
            writer.await_records(random_.randint(1, 3))
            if number % 2:
                time.sleep(random_.uniform(*DELAYS_SECONDS))  # the moment itself is what is random
            if number % 4 == 3:  # however little of its time a quick disk takes
                until(lambda: any(disk.folder.rglob(f"*{TEMPORARY}")), what="a write", every=0.0005)
            with writer.frozen():
                on_disk = {path.relative_to(disk.folder).as_posix() for path in disk.folder.rglob("*.p*")}
                in_mid_write += bool(on_disk - writer.recorded.keys())
                disk.cut(tmp_path / "copy.img")
            with mounted(tmp_path / "copy.img", tmp_path / "copy") as copy:
                lost = damage(copy, writer.recorded)
            assert not lost, f"cut {number + 1} of seed {seed}, {len(writer.recorded)} recorded: {lost}"
    assert in_mid_write >= cuts / 8, "cuts that hit nothing prove little"


def damage(store: Path, recorded: dict[str, tuple[int, str]]) -> dict[str, str]:
    """What became of recorded files that are not as they were recorded."""
    found = {}
    for path, (size_bytes, sha256) in recorded.items():
        try:
            content = (store / path).read_bytes()
        except OSError as error:
            found[path] = error.strerror or str(error)
            continue
        if len(content) != size_bytes:
            found[path] = f"{len(content)} of {size_bytes} bytes"
        elif hashlib.sha256(content).hexdigest() != sha256:
            found[path] = "other bytes"
    return found


@pytest.mark.parametrize("cuts", [8, pytest.param(150, marks=pytest.mark.long)])
def test_jobs_that_were_accepted_outlive_power_cuts(disk: Disk, tmp_path: Path, cuts: int) -> None:
    random_ = random.Random()
    with writing("accepting", disk.folder) as writer:
        for number in range(cuts):
            writer.await_records(random_.randint(1, 3))
            if number % 2:
                time.sleep(random_.uniform(0.0, 0.01))  # the moment itself is what is random
            with writer.frozen():
                disk.cut(tmp_path / "copy.img")
            with mounted(tmp_path / "copy.img", tmp_path / "copy") as copy:
                lost = lost_jobs(copy / "perdure.db", set(writer.recorded))
            assert not lost, f"cut {number + 1}, {len(writer.recorded)} accepted"


def lost_jobs(database: Path, accepted: set[str]) -> set[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return accepted - {job_id for (job_id,) in connection.execute("SELECT id FROM jobs")}
