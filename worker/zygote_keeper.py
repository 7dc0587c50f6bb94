"""Keeps one zygote alive, and asks it for trainers."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial

import structlog

from models.errors import TrainerCrashed

_log = structlog.get_logger()

#: Importing torch from a cold disk may take this long.
READY_SECONDS = 120.0
#: Once it is up, a fork takes milliseconds.
REPLY_SECONDS = 10.0
_MAX_REPLY = 4096


@dataclass(frozen=True)
class Forked:
    pid: int
    pidfd: int


class ZygoteKeeper:
    """One thread that never ends starts the zygote again whenever it dies.

    The thread must not end, because a parent-death signal follows the parent *thread*: a zygote started
    from a passing thread would be killed as soon as that thread was done.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wire: socket.socket | None = None  # to the zygote of the moment, ready or not
        self._channel: socket.socket | None = None  # the same, once it is ready
        self._replies: list[tuple[dict[str, int], list[int]]] = []
        self._statuses: dict[int, int] = {}
        self._stopping = False
        self.pid: int | None = None
        threading.Thread(target=self._keep, name="zygote-keeper", daemon=True).start()

    def fork(self, inbox: int, outbox: int, log: int, timeout: float = READY_SECONDS) -> Forked:
        """A new trainer that holds these descriptors. Raises TrainerCrashed when there is no zygote."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._channel or self._stopping, deadline - time.monotonic())
                if self._channel is None:
                    raise TrainerCrashed("The zygote did not come up; the worker's log says why.")
                channel, pid = self._channel, self.pid
                try:
                    socket.send_fds(channel, [b"fork"], [inbox, outbox, log])
                except OSError:  # it died a moment ago and the thread has not seen it yet
                    self._lost(channel)
                    continue
                heard = self._changed.wait_for(partial(self._is_settled, pid), REPLY_SECONDS)
                if self._replies:
                    reply, descriptors = self._replies.pop()
                    return Forked(reply["forked"], descriptors[0])
                if not heard:
                    # Its answer, if it comes, must not be taken for one to a later request.
                    _hang_up(channel)
                    raise TrainerCrashed("The zygote does not answer; another is started.")

    def _is_settled(self, asked: int | None) -> bool:
        """A fork was answered, or the zygote that was asked for it is gone."""
        return bool(self._replies) or self.pid != asked

    def wait_ready(self, timeout: float) -> bool:
        """Whether a trainer could be forked within this time; True as well once the keeper stops."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._channel or self._stopping, timeout))

    def exit_status(self, pid: int, timeout: float = 1.0) -> int | None:
        """The wait status of a trainer that ended; None if its zygote died with the answer."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._statuses or self._channel is None, timeout)
            return self._statuses.pop(pid, None)

    def stop(self) -> None:
        """End the zygote, and with it whatever it still runs."""
        with self._changed:
            self._stopping = True
            _hang_up(self._wire)
            self._changed.notify_all()

    def _keep(self) -> None:
        pause = 0.0
        while not self._stopping:
            started = time.monotonic()
            self._live_through_one()
            # A zygote that dies at once (a broken torch) must not spin; one that was killed is back at once.
            pause = min(30.0, max(0.5, 2 * pause)) if time.monotonic() - started < 5.0 else 0.0
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, pause)

    def _live_through_one(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            with self._changed:
                self._wire = ours
                if self._stopping:
                    return
            process = _start_zygote(theirs)
            theirs.close()
            try:
                while True:
                    data, descriptors, _, _ = socket.recv_fds(ours, _MAX_REPLY, 1)
                    if not data:
                        break
                    self._hear(json.loads(data), descriptors, ours)
            except OSError:
                pass
            finally:
                self._lost(ours)
                process.kill()
                status = process.wait()
                if not self._stopping:
                    _log.warning("zygote.died", pid=process.pid, status=status)

    def _hear(self, reply: dict[str, int], descriptors: list[int], channel: socket.socket) -> None:
        with self._changed:
            if "ready" in reply:
                self._channel, self.pid = channel, reply["ready"]
            elif "forked" in reply:
                self._statuses.pop(reply["forked"], None)  # of an earlier child of this number
                self._replies.append((reply, descriptors))
            else:
                self._statuses[reply["exited"]] = reply["status"]
            self._changed.notify_all()

    def _lost(self, channel: socket.socket | None) -> None:
        with self._changed:
            if self._wire is channel:
                self._channel = self.pid = None
                self._replies.clear()
            self._changed.notify_all()


def _hang_up(channel: socket.socket | None) -> None:
    """The keeper's thread sees the end of the conversation, and ends the zygote."""
    if channel is not None:
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)


def _start_zygote(channel: socket.socket) -> subprocess.Popen[bytes]:
    descriptor = channel.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", "worker.zygote", "--socket", str(descriptor), "--parent", str(os.getpid())],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=trainer_environment(),
    )


def trainer_environment() -> dict[str, str]:
    """What must be set before a process begins, since libraries read it once, at their load."""
    return os.environ | {
        "OPENBLAS_NUM_THREADS": "1",  # no thread pool in the zygote
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products
        # Without these glibc returns each batch's activations to the kernel and faults them in again:
        # 1.8 to 2.7 times as long a step on a CPU, with unchanged bits.
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
    }
