"""Waiting for a signal, a child's death or a deadline, whichever comes first, in a single thread."""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Within this context signals interrupt ``wait`` and nothing else."""

    def __init__(self) -> None:
        self.stop_requests = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous: dict[int, Any] = {}
        self._previous_wakeup = -1

    def __enter__(self) -> Self:
        self._previous_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            # `nohup perdure up` means it: a signal that is ignored stays ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._count)
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._wake)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout_seconds: float) -> None:
        """Return at the next signal, or after the timeout.

        A signal that came just before is not lost: its byte is still in the socket.
        """
        readable, _, _ = select.select([self._reader], [], [], max(0.0, timeout_seconds))
        if readable:
            self._reader.recv(4096)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.stop_requests += 1

    def _wake(self, number: int, frame: FrameType | None) -> None:
        """A handler has to exist, or the byte that ends ``wait`` is not written."""
