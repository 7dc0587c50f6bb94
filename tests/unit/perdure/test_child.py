"""Children of `perdure up`: when they are started again, and that they never outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure.child import Backoff, Child, in_words, spawn, tail
from perdure.processes import descendants, kill_tree

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent-death signals are Linux's")


def test_backoff_grows_to_its_limit_and_forgets_after_a_good_life() -> None:
    backoff = Backoff()
    pauses = [backoff.after_death(lived_seconds=1.0) for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after_death(lived_seconds=10.0) == 0.1


def test_a_death_is_seen_once_and_the_next_start_planned(tmp_path: Path) -> None:
    now = [100.0]
    child = Child("c", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), tmp_path / "c.log")
    child.clock = lambda: now[0]
    child.start()
    assert child.process is not None
    child.process.wait(10)
    now[0] = 101.0
    assert child.reap() == 3
    assert child.due_at == pytest.approx(101.1)
    assert child.reap() is None
    assert not child.is_alive


def test_output_goes_to_the_log_which_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.child.MAX_LOG_BYTES", 10)
    log = tmp_path / "c.log"
    for _ in range(2):
        spawn([sys.executable, "-c", "print('twelve bytes')"], dict(os.environ), log).wait(10)
    assert tail(log) == "twelve bytes"
    assert tail(tmp_path / "c.log.1") == "twelve bytes"
    assert tail(tmp_path / "missing.log") == ""


def test_last_words_are_those_of_the_last_life(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    log.write_text("an error of last week\n")
    child = Child("c", [sys.executable, "-c", "print('an error of now')"], dict(os.environ), log)
    for _ in range(2):
        child.start()
        assert child.process is not None
        child.process.wait(10)
        assert child.log_tail() == "an error of now"
    assert tail(log, since=10**6).startswith("an error of last week"), "a log that was set aside began anew"


def test_a_child_has_a_session_of_its_own_and_kill_ends_its_group(tmp_path: Path) -> None:
    child = Child("c", SLEEPER, dict(os.environ), tmp_path / "c.log")
    child.start()
    assert os.getsid(child.pid) == child.pid
    process = child.process
    child.kill()
    assert process is not None
    assert process.wait(10) == -signal.SIGKILL


def test_terminate_reaches_a_stopped_process(tmp_path: Path) -> None:
    child = Child("c", SLEEPER, dict(os.environ), tmp_path / "c.log")
    child.start()
    os.kill(child.pid, signal.SIGSTOP)
    child.terminate()
    assert child.process is not None
    assert child.process.wait(10) == -signal.SIGTERM


@LINUX
def test_kill_9_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from perdure.child import spawn
child = spawn({SLEEPER!r}, dict(os.environ), Path({str(tmp_path / "c.log")!r}))
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_gone(child)


def test_kill_tree_reaches_grandchildren_in_sessions_of_their_own() -> None:
    program = f"""
import subprocess, sys, time
print(subprocess.Popen({SLEEPER!r}, start_new_session=True).pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    assert grandchild in descendants(os.getpid())
    assert kill_tree(parent.pid) == [parent.pid, grandchild]
    assert parent.wait(10) == -signal.SIGKILL
    parent.stdout.close()
    wait_until_gone(grandchild)


@pytest.mark.parametrize(
    ("code", "words"), [(2, "exit code 2"), (-9, "SIGKILL"), (-64, "SIGRTMAX"), (-99, "signal 99")]
)
def test_return_codes_in_words(code: int, words: str) -> None:
    assert in_words(code) == words


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """A zombie whose new parent has not looked yet is as good as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
