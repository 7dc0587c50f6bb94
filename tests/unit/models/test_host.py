"""Which process this is, and whether it lives, however clocks and numbers move."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models import host
from models.host import Owner, ProcessId, boot_id, boot_time_clock, pid_namespace
from tests.servers.waiting import until


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def test_this_process_lives() -> None:
    me = ProcessId.of(os.getpid())
    assert me.is_alive()
    assert 0.0 < me.started_at <= boot_time_clock()


def test_a_process_from_its_start_to_its_end(process: "subprocess.Popen[bytes]") -> None:
    identity = ProcessId.of(process.pid)
    assert identity.is_alive()
    process.kill()
    process.wait()
    assert not identity.is_alive()
    with pytest.raises(psutil.NoSuchProcess):
        ProcessId.of(process.pid)


def test_a_zombie_is_dead(process: "subprocess.Popen[bytes]") -> None:
    """Its parent may be the very process that froze."""
    identity = ProcessId.of(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert not identity.is_alive()


FIRST_THREAD_LEAVES = """
import ctypes, threading
threading.Thread(target=input).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of the system call")
def test_a_process_whose_first_thread_left_lives_on(tmp_path: Path) -> None:
    """It looks like a zombie, and its other threads may still write."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", FIRST_THREAD_LEAVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None and child.stdout.readline()
        identity = ProcessId.of(child.pid)
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert identity.is_alive()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.is_alive()
    finally:
        child.kill()
        child.communicate()


def test_a_frozen_process_lives(process: "subprocess.Popen[bytes]") -> None:
    identity = ProcessId.of(process.pid)
    process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    assert identity.is_alive()


@pytest.mark.parametrize("seconds", [-3600.0, -0.01, 0.01, 3600.0])
def test_a_later_process_of_the_same_number_is_another(
    process: "subprocess.Popen[bytes]", seconds: float
) -> None:
    mine = ProcessId.of(process.pid)
    assert not ProcessId(mine.pid, mine.started_at + seconds).is_alive()
    assert ProcessId(mine.pid, float(repr(mine.started_at))).is_alive(), "as a database gives it back"


def test_setting_the_clock_kills_nobody(
    process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil's start times hang on the boot instant, which moves with the wall clock."""
    before = ProcessId.of(process.pid)
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 86_400.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: real - 5.0)
    assert ProcessId.of(process.pid) == before
    assert before.is_alive()


@pytest.mark.parametrize("name", ["x) Z 1 (y", "a b", ")))", "(("])
def test_a_process_may_be_called_anything(tmp_path: Path, name: str) -> None:
    """The kernel writes the name between parentheses, as it is."""
    (tmp_path / name).symlink_to(Path("/bin/sleep").resolve())
    child = subprocess.Popen([tmp_path / name, "60"])
    try:
        until(lambda: psutil.Process(child.pid).name() == name)
        identity = ProcessId.of(child.pid)
        assert identity.is_alive()
        assert abs(identity.started_at - boot_time_clock()) < 30.0
    finally:
        child.kill()
        child.wait()
    assert not identity.is_alive()


def test_the_number_of_no_process() -> None:
    assert not ProcessId(2**22 + 1, 0.0).is_alive()


def test_the_owner_says_what_others_need_to_find_it() -> None:
    owner = Owner.this_process("wrk_1")
    assert (owner.worker_id, owner.boot_id, owner.pid_namespace) == ("wrk_1", boot_id(), pid_namespace())
    assert owner.process == ProcessId.of(os.getpid())
    assert owner.host


def test_boot_and_namespace_are_those_of_all_processes_here() -> None:
    code = "from models.host import *; print(boot_id(), pid_namespace())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    ).stdout.split()
    assert said == [boot_id(), pid_namespace()]


def test_without_proc_there_is_still_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    process = ProcessId.of(os.getpid())
    monkeypatch.setattr(host.sys, "platform", "darwin")
    elsewhere = ProcessId.of(os.getpid())
    assert elsewhere.is_alive() and elsewhere != process
