"""A trainer as its supervisor sees it: two pipes, a process number that cannot be mistaken, an exit."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from models.host import ProcessId
from models.job_state import EndCause
from worker.messages import FromTrainer, Task, ToTrainer
from worker.oom_kills import oom_kills
from worker.wire import LineBuffer, decode, encode
from worker.zygote_keeper import ZygoteKeeper, trainer_environment

_READ_AT_ONCE = 65_536
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Exit:
    """How a trainer ended; ``status`` is a wait status, None when nobody was left to collect it."""

    status: int | None
    out_of_memory: bool = False  #: by the kernel, whose signal looks like anybody's

    @property
    def by_signal(self) -> bool:
        return self.status is None or os.WIFSIGNALED(self.status)

    @property
    def cause(self) -> EndCause:
        """As the ledger has it."""
        if self.out_of_memory:
            return EndCause.OUT_OF_MEMORY
        return EndCause.TRAINER_KILLED if self.by_signal else EndCause.TRAINER_ERROR

    def __str__(self) -> str:
        if self.out_of_memory:
            return "killed by the kernel, since memory ran out: use a smaller batch_size, or allow it more"
        if self.status is None:
            return "killed together with its zygote"
        if os.WIFSIGNALED(self.status):
            return f"killed by {signal.Signals(os.WTERMSIG(self.status)).name}"
        return f"exited with status {os.waitstatus_to_exitcode(self.status)}"


class TrainerProcess(Protocol):
    """Both kinds of trainer; the supervisor does not care which."""

    id: ProcessId

    def send(self, message: ToTrainer) -> None: ...
    def receive(self, timeout: float, wake_fd: int) -> Iterator[FromTrainer]: ...
    def exited(self) -> Exit | None: ...
    def signal(self, number: int) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class _Piped:
    """The pipes, and what is the same however the process was started."""

    def __init__(self, inbox: int, outbox: int, process: ProcessId, exit_fd: int) -> None:
        self.id = process
        self._inbox = inbox
        self._outbox = outbox
        self._exit_fd = exit_fd  #: becomes readable when the process has ended
        self._buffer = LineBuffer()
        self._outbox_open = True
        self._sending = threading.Lock()  # a late heartbeat must not hit the number of a closed pipe
        self._is_closed = False
        self._oom_kills = oom_kills()
        os.set_blocking(inbox, False)
        os.set_blocking(outbox, False)

    def send(self, message: ToTrainer) -> None:
        """Unbuffered and never blocking: a frozen trainer misses heartbeats, it does not freeze us."""
        with self._sending, contextlib.suppress(BrokenPipeError, BlockingIOError):
            if not self._is_closed:
                os.write(self._inbox, encode(message))

    def receive(self, timeout: float, wake_fd: int) -> Iterator[FromTrainer]:
        """What the trainer said, waiting at most ``timeout`` seconds for it, its end, or ``wake_fd``."""
        watched = [self._exit_fd, wake_fd] + ([self._outbox] if self._outbox_open else [])
        select.select(watched, [], [], timeout)
        # Everything that is in the pipe, even after the process's end: its last words count. The end
        # itself is not told by EOF, since loading workers inherit the pipe and may live a moment longer.
        while self._outbox_open:
            try:
                data = os.read(self._outbox, _READ_AT_ONCE)
            except BlockingIOError:
                return
            self._outbox_open = bool(data)
            for line in self._buffer.feed(data):
                yield decode(line)  # type: ignore[misc]

    def _exit(self, status: int | None) -> Exit:
        """Whoever ends a trainer by SIGKILL may be the kernel, which counts what it kills."""
        killed = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        return Exit(status, out_of_memory=killed and (oom_kills() or 0) > (self._oom_kills or 0))

    def has_ended(self) -> bool:
        return bool(select.select([self._exit_fd], [], [], 0)[0])

    def close(self) -> None:
        with self._sending:
            self._is_closed = True
            for descriptor in (self._inbox, self._outbox, self._exit_fd):
                os.close(descriptor)


class ForkedTrainer(_Piped):
    """Forked from the warm zygote, which collects its exit."""

    def __init__(self, keeper: ZygoteKeeper, task: Task, log: Path) -> None:
        self._keeper = keeper
        with _pipes(log) as (child_inbox, child_outbox, log_fd, inbox, outbox):
            forked = keeper.fork(child_inbox, child_outbox, log_fd)
            _write_task(inbox, task)
        super().__init__(inbox, outbox, _identify(forked.pid), forked.pidfd)

    def exited(self) -> Exit | None:
        return self._exit(self._keeper.exit_status(self.id.pid)) if self.has_ended() else None

    def signal(self, number: int) -> None:
        """By pidfd, so that no other process can be hit; no error for one that is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._exit_fd, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        select.select([self._exit_fd], [], [], 30.0)


class SpawnedTrainer(_Piped):
    """Started cold, where fork is not possible (macOS) or not wanted."""

    def __init__(self, task: Task, log: Path) -> None:
        ended, still_running = os.pipe()
        with _pipes(log) as (child_inbox, child_outbox, log_fd, inbox, outbox):
            arguments = ["--inbox", str(child_inbox), "--outbox", str(child_outbox)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.training", *arguments],
                # The child holds `still_running` for as long as it lives: its close is our exit signal.
                pass_fds=[child_inbox, child_outbox, still_running],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
                env=trainer_environment(),
            )
            os.close(still_running)
            _write_task(inbox, task)
        super().__init__(inbox, outbox, _identify(self._process.pid), ended)

    def exited(self) -> Exit | None:
        code = self._process.poll()
        if code is None:
            return None
        return self._exit(-code if code < 0 else code << 8)

    def signal(self, number: int) -> None:
        """To our own child, which nobody but us collects; no error for one that is gone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(30.0)


def bury(trainer: ProcessId, deadline_seconds: float = 30.0) -> bool:
    """Kill a predecessor's trainer on this host and wait until it is gone; False if it won't go."""
    deadline = time.monotonic() + deadline_seconds
    while trainer.is_alive():
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "pidfd_open"):
                _kill_by_pidfd(trainer, deadline)
            else:  # macOS has only the number, which was looked at a moment ago
                os.kill(trainer.pid, signal.SIGKILL)
                time.sleep(_LOOK_AGAIN_SECONDS)
    return True


def _kill_by_pidfd(trainer: ProcessId, deadline: float) -> None:
    pidfd = os.pidfd_open(trainer.pid)
    try:
        if trainer.is_alive():  # the number may have changed hands before the pidfd was opened
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], deadline - time.monotonic())
    finally:
        os.close(pidfd)


def _identify(pid: int) -> ProcessId:
    try:
        return ProcessId.of(pid)
    except psutil.NoSuchProcess:  # it died within its first milliseconds and was collected already
        return ProcessId(pid, 0.0)


@contextlib.contextmanager
def _pipes(log: Path) -> Iterator[tuple[int, int, int, int, int]]:
    """The child's inbox, outbox and log, closed on our side at the end, and our two ends, kept on success."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child_inbox, inbox = os.pipe()
    outbox, child_outbox = os.pipe()
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield child_inbox, child_outbox, log_fd, inbox, outbox
    except BaseException:
        os.close(inbox)
        os.close(outbox)
        raise
    finally:
        for descriptor in (child_inbox, child_outbox, log_fd):
            os.close(descriptor)


def _write_task(inbox: int, task: Task) -> None:
    """The first line may be longer than the pipe, so this one write blocks; the child reads it at once."""
    line = memoryview(encode(task))
    with contextlib.suppress(BrokenPipeError):  # it died already; its exit says so
        while line:
            line = line[os.write(inbox, line) :]
