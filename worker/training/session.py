"""The trainer's end of the pipes: what it is told, what it reports, and when it must wait or leave.

A thread reads the inbox and only notes what it read. The training thread looks at these notes at its
boundaries (between steps and batches), where its state is whole. End of file alone acts at once: whoever
held the other end is gone, so nobody may be told anything any more.
"""

import os
import sys
import threading
import time
import traceback
from typing import NoReturn

from worker.messages import Cancel, FromTrainer, Heartbeat, Parked, Progress, Stop
from worker.wire import LineBuffer, decode, encode

TICK_SECONDS = 0.05
PARKED_LIMIT_SECONDS = 600.0

EXIT_ORPHANED = 81  #: the supervisor is gone
EXIT_PARKED_TOO_LONG = 82


class StopRequested(Exception):
    """Write a checkpoint here, then leave."""


class CancelRequested(Exception):
    """Leave here, without a checkpoint."""


def boot_seconds() -> float:
    """The clock of heartbeats: it runs on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Session:
    """One trainer's conversation with its supervisor."""

    def __init__(
        self,
        inbox_fd: int,
        outbox_fd: int,
        park_after_seconds: float,
        lease_confirmed_at: float | None = None,
    ) -> None:
        self.inbox_fd = inbox_fd
        self.outbox_fd = outbox_fd
        self._park_after_seconds = park_after_seconds
        self._heard_at = boot_seconds() if lease_confirmed_at is None else lease_confirmed_at
        self._stop = False
        self._cancel = False
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._ticked_at = -TICK_SECONDS
        self._ticked_phase = ""
        self._parked_seconds = 0.0

    def start(self) -> None:
        threading.Thread(target=self._listen, name="inbox", daemon=True).start()

    # -- Reporting ---------------------------------------------------------------------------------

    def send(self, message: FromTrainer) -> None:
        """Blocks while the pipe is full: a supervisor that does not read must not be outrun."""
        line = memoryview(encode(message))
        try:
            with self._sending:
                while line:
                    line = line[os.write(self.outbox_fd, line) :]
        except BrokenPipeError:
            os._exit(EXIT_ORPHANED)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Say how far a phase got; calls in quick succession are dropped, but never a phase's first."""
        now = time.monotonic()
        if phase == self._ticked_phase and now - self._ticked_at < TICK_SECONDS:
            return
        self._ticked_at, self._ticked_phase = now, phase
        self.send(Progress(phase, done, total))

    # -- Boundaries --------------------------------------------------------------------------------

    def boundary(self) -> None:
        """Call where the state is whole. Waits while parked; raises CancelRequested or StopRequested."""
        self.wait_while_silent()
        if self._stop:
            raise StopRequested

    def wait_while_silent(self) -> None:
        """Park until the supervisor is heard again; it may have lost the job. Raises CancelRequested."""
        if self._silent() and not self._cancel:
            began_at = time.monotonic()
            self.send(Parked(True))
            self._await_heartbeat()
            self.send(Parked(False))
            self._parked_seconds += time.monotonic() - began_at
        self.raise_if_cancelled()

    def work_clock(self) -> float:
        """Seconds since some instant, without those of parking: they got the weights no further."""
        return time.monotonic() - self._parked_seconds

    def raise_if_cancelled(self) -> None:
        if self._cancel:
            raise CancelRequested

    def _await_heartbeat(self) -> None:
        give_up_at = boot_seconds() + PARKED_LIMIT_SECONDS
        with self._changed:
            while self._silent() and not self._cancel:
                if boot_seconds() >= give_up_at:
                    os._exit(EXIT_PARKED_TOO_LONG)
                # In short waits, since they are timed by a clock that stops while the machine sleeps.
                self._changed.wait(timeout=0.5)

    def _silent(self) -> bool:
        return boot_seconds() - self._heard_at > self._park_after_seconds

    # -- Listening ---------------------------------------------------------------------------------

    def _listen(self) -> NoReturn:
        lines = LineBuffer()
        while data := self._read():
            for line in lines.feed(data):
                try:
                    self._note(line)
                except Exception:  # noqa: BLE001 - a line from a newer supervisor must not deafen this thread
                    traceback.print_exc(file=sys.stderr)
        os._exit(EXIT_ORPHANED)

    def _read(self) -> bytes:
        try:
            return os.read(self.inbox_fd, 65536)
        except OSError:
            return b""

    def _note(self, line: bytes) -> None:
        message = decode(line)
        with self._changed:
            if isinstance(message, Heartbeat):
                self._heard_at = max(self._heard_at, message.at)
            elif isinstance(message, Stop):
                self._stop = True
            elif isinstance(message, Cancel):
                self._cancel = True
            self._changed.notify_all()
