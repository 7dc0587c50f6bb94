"""Threads that play one actor after another: to start one costs more than a hundred turns."""

import threading
from collections.abc import Callable

_idle: "list[Carrier]" = []


class Carrier:
    """A thread that runs only while it has the baton."""

    def __init__(self) -> None:
        self._baton = threading.Lock()
        self._baton.acquire()
        self._play: Callable[[], Carrier] | None = None

    @classmethod
    def of(cls, play: Callable[[], "Carrier"]) -> "Carrier":
        """One that begins to play at its first turn; ``play`` answers who has the baton after it."""
        carrier = _idle.pop() if _idle else cls._started()
        carrier._play = play
        return carrier

    @classmethod
    def _started(cls) -> "Carrier":
        carrier = cls()
        threading.Thread(target=carrier._run, name="carrier", daemon=True).start()
        return carrier

    def hand_over(self, following: "Carrier") -> None:
        """The baton goes to another thread; returns when it is back."""
        following._baton.release()
        self._baton.acquire()

    def _run(self) -> None:
        while True:
            self._baton.acquire()
            assert self._play is not None
            following, self._play = self._play(), None  # what it held is gone before anybody else runs
            _idle.append(self)
            following._baton.release()
