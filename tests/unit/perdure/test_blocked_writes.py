"""Writes that are blocked for long are noticed, and so is who is stopped."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure import blocked_writes
from perdure.blocked_writes import BLOCKED_SECONDS, BlockedWrites, database_of, is_stopped


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "perdure.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    return path


def test_only_a_long_block_counts(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_writes, "PROBE_SECONDS", 0.0)
    now = [0.0]
    writes = BlockedWrites(database, clock=lambda: now[0])
    assert not writes.too_long()

    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert not writes.too_long()
    now[0] = BLOCKED_SECONDS
    assert writes.too_long()

    holder.execute("ROLLBACK")
    assert not writes.too_long()
    holder.execute("BEGIN IMMEDIATE")
    now[0] = 2 * BLOCKED_SECONDS
    assert not writes.too_long()  # counted anew
    holder.close()
    writes.close()


def test_a_database_that_is_not_there_is_neither_made_nor_blocked(tmp_path: Path) -> None:
    writes = BlockedWrites(tmp_path / "missing.db")
    assert not writes.too_long()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_stopped_process_is_told_from_a_sleeping_one() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert not is_stopped(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while not is_stopped(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_stopped(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not is_stopped(process.pid)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/perdure.db", Path("/var/lib/perdure.db")),
        ("sqlite+pysqlite:////a.db?timeout=3", Path("/a.db")),
        ("postgresql+psycopg://host/db", None),
        ("sqlite://", None),
    ],
)
def test_the_file_behind_an_address(url: str, path: Path | None) -> None:
    assert database_of(url) == path
