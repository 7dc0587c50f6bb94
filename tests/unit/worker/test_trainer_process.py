"""The supervisor's end of the pipes: it never blocks, never hits another file, and hears last words."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.host import ProcessId
from tests.servers.waiting import until
from worker.messages import Heartbeat, Progress, StepDone, Stop
from worker.trainer_process import Exit, _Piped, bury
from worker.wire import decode, encode

SAYS_AND_LEAVES = """
import os
from worker.messages import StepDone
from worker.wire import encode
for step in range(1, 1001):
    os.write(1, encode(StepDone(step, 1)))
os.kill(os.getpid(), 9)
"""


@dataclass
class Child:
    """A stand-in for a trainer: any process, with our pipes to it."""

    process: "subprocess.Popen[bytes]"
    piped: _Piped
    inbox: int  #: the child's end
    wake_read: int
    wake_write: int


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    code = getattr(request, "param", "import time; time.sleep(60)")
    child_inbox, inbox = os.pipe()
    outbox, child_outbox = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=child_inbox, stdout=child_outbox, cwd=Path(__file__).parents[3]
    )
    os.close(child_outbox)
    piped = _Piped(inbox, outbox, ProcessId.of(process.pid), os.pidfd_open(process.pid))
    wake_read, wake_write = os.pipe()
    yield Child(process, piped, child_inbox, wake_read, wake_write)
    process.kill()
    process.wait()
    if not piped._is_closed:
        piped.close()
    for descriptor in (child_inbox, wake_read, wake_write):
        os.close(descriptor)


def test_sending_never_blocks(child: Child) -> None:
    """A trainer that is frozen, or busy in a long step, reads nothing."""
    began = time.monotonic()
    for at in range(20_000):
        child.piped.send(Heartbeat(float(at)))
    assert time.monotonic() - began < 5.0
    received = os.read(child.inbox, 1 << 20)
    lines = received.split(b"\n")
    assert lines[-1] == b"" and decode(lines[0]) == Heartbeat(0.0), "whole lines only"
    for line in lines[:-1]:
        decode(line)


def test_sending_to_the_dead_is_no_error(child: Child) -> None:
    child.process.kill()
    child.process.wait()
    os.dup2(child.wake_read, child.inbox)  # the last reader of the pipe is gone
    child.piped.send(Stop())


def test_after_the_end_nothing_is_sent_to_whoever_has_the_number_now(child: Child, tmp_path: Path) -> None:
    number = child.piped._inbox
    child.piped.close()
    other = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    try:
        child.piped.send(Heartbeat(1.0))
        assert (tmp_path / "precious").read_bytes() == b""
    finally:
        os.close(number)
        if other != number:
            os.close(other)


@pytest.mark.parametrize("child", [SAYS_AND_LEAVES], indirect=True)
def test_last_words_are_heard_after_the_end(child: Child) -> None:
    until(child.piped.has_ended, seconds=20)
    heard = list(child.piped.receive(timeout=0.0, wake_fd=child.wake_read))
    assert heard == [StepDone(step, 1) for step in range(1, 1001)]
    assert list(child.piped.receive(timeout=0.0, wake_fd=child.wake_read)) == []


@pytest.mark.parametrize(
    "child",
    ['import os, time; os.write(1, b\'["Progress", {"phase": "tr\'); time.sleep(60)'],
    indirect=True,
)
def test_half_a_word_is_not_heard(child: Child) -> None:
    started = time.monotonic()
    while time.monotonic() - started < 20:
        assert list(child.piped.receive(timeout=0.05, wake_fd=child.wake_read)) == []
        if child.piped._buffer._rest:
            break
    assert child.piped._buffer._rest == b'["Progress", {"phase": "tr'
    child.process.kill()
    until(child.piped.has_ended)
    assert list(child.piped.receive(timeout=0.0, wake_fd=child.wake_read)) == []


@pytest.mark.parametrize("by", ["wake", "end"])
def test_waiting_for_words_ends_early(child: Child, by: str) -> None:
    if by == "wake":
        os.write(child.wake_write, b"!")
    else:
        child.process.kill()
    began = time.monotonic()
    assert list(child.piped.receive(timeout=30.0, wake_fd=child.wake_read)) == []
    assert time.monotonic() - began < 10.0


def test_waiting_for_words_ends_in_time(child: Child) -> None:
    began = time.monotonic()
    assert list(child.piped.receive(timeout=0.1, wake_fd=child.wake_read)) == []
    assert 0.09 <= time.monotonic() - began < 10.0


@pytest.mark.parametrize("child", ["import os, sys; os.write(1, sys.stdin.buffer.readline())"], indirect=True)
def test_words_are_not_buffered(child: Child) -> None:
    message = Progress("training", 1, 2)
    child.piped.send(message)  # type: ignore[arg-type] - any message will do: it is echoed
    until(child.piped.has_ended, seconds=20)
    assert list(child.piped.receive(timeout=0.0, wake_fd=child.wake_read)) == [message]
    assert encode(message).endswith(b"\n")


@pytest.mark.parametrize(
    ("status", "by_signal", "said"),
    [(9, True, "killed by SIGKILL"), (11, True, "killed by SIGSEGV"), (0, False, "exited with status 0"),
     (81 << 8, False, "exited with status 81"), (None, True, "killed together with its zygote")],
)  # fmt: skip
def test_how_a_trainer_ended(status: int | None, by_signal: bool, said: str) -> None:
    assert (Exit(status).by_signal, str(Exit(status))) == (by_signal, said)


def test_the_kernel_is_told_from_others_who_kill() -> None:
    assert Exit(9).cause == "trainer_killed"
    assert Exit(9, out_of_memory=True).cause == "out_of_memory"
    assert "memory ran out" in str(Exit(9, out_of_memory=True))
    assert Exit(1 << 8).cause == "trainer_error"


# -- Burying predecessors ----------------------------------------------------------------------------


def test_a_predecessors_trainer_is_killed_and_awaited(child: Child) -> None:
    assert bury(child.piped.id)
    assert not child.piped.id.is_alive()
    assert child.process.wait() == -signal.SIGKILL


def test_even_a_frozen_one(child: Child) -> None:
    child.process.send_signal(signal.SIGSTOP)
    assert bury(child.piped.id)
    assert child.process.wait() == -signal.SIGKILL


def test_where_processes_have_but_a_number(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "pidfd_open")
    assert bury(child.piped.id)
    assert child.process.wait() == -signal.SIGKILL


def test_never_another_process_that_has_its_number_now(child: Child) -> None:
    earlier = ProcessId(child.piped.id.pid, child.piped.id.started_at - 60.0)
    assert bury(earlier)
    assert child.piped.id.is_alive()


def test_one_that_is_long_gone(child: Child) -> None:
    child.process.kill()
    child.process.wait()
    assert bury(child.piped.id)
