"""One child process of `perdure up`: started, looked after, started again, stopped."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
#: A log that has grown beyond this is set aside at the next start.
MAX_LOG_BYTES = 20_000_000


@dataclass
class Backoff:
    """How long to wait before the next start: longer each time, from the start again after a good life."""

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    reset_after_seconds: float = 10.0
    failures: int = 0  #: in a row

    def after_death(self, lived_seconds: float) -> float:
        """Count a death and return the pause that follows it."""
        self.failures = 1 if lived_seconds >= self.reset_after_seconds else self.failures + 1
        return float(min(self.longest_seconds, self.first_seconds * 2 ** (self.failures - 1)))


@dataclass
class Child:
    """A part that has to run until it is stopped."""

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log: Path
    #: Called before each start with the failures in a row; returns descriptors for the child to keep.
    before_start: Callable[[int], Sequence[int]] = lambda failures: ()
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    due_at: float = 0.0
    _started_at: float = 0.0
    _log_began_at: int = 0

    @property
    def pid(self) -> int:
        """The running process; 0 if there is none."""
        return self.process.pid if self.process else 0

    @property
    def is_alive(self) -> bool:
        """Started, and its death not yet seen."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it. Only the main thread may: the parent-death signal follows the *thread* that forked."""
        descriptors = self.before_start(self.backoff.failures)
        self._log_began_at = size_of(self.log)
        try:
            self.process = spawn(self.argv, self.env, self.log, keep=descriptors)
        finally:
            for descriptor in descriptors:  # the child has its own copy now
                os.close(descriptor)
        self.starts += 1
        self._started_at = self.clock()

    def reap(self) -> int | None:
        """The return code, once, if it has died since the last call; the next start is then planned."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.process = None
        now = self.clock()
        self.due_at = now + self.backoff.after_death(now - self._started_at)
        return code

    def terminate(self) -> None:
        """Ask it to end; only it, since what it started is its own to end in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)  # a stopped process would never hear of it

    def kill(self) -> None:
        """End it at once, with everything that is still in its session's first group."""
        if self.process is not None and self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self.process.kill()

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that it wrote since its last start."""
        return tail(self.log, lines, since=self._log_began_at)


def spawn(
    argv: Sequence[str], env: dict[str, str], log: Path, *, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that dies with this one, output appended to ``log``.

    Its own session, so that the terminal's Ctrl-C reaches `perdure up` alone, which stops the parts in order.
    """
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=keep,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has a single thread
        )


def size_of(log: Path) -> int:
    """0 for a log that is not there yet."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def tail(log: Path, lines: int = 12, *, since: int = 0) -> str:
    """The last lines of a log, of what it held beyond ``since`` bytes; those before are another run's."""
    try:
        with log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - 16_384, since if since <= end else 0))  # shorter: it was set aside
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def in_words(code: int) -> str:
    """A return code as people say it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _die_with_parent() -> Callable[[], None] | None:
    """What makes a child die with `perdure up`, however that ends (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork

    def set_parent_death_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died between the fork and the line above: then no signal will ever come.
        if os.getppid() != parent:
            os._exit(1)

    return set_parent_death_signal
