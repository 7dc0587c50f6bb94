"""What stands in for ``time``, ``threading``, ``os`` and futures in the modules under test."""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from types import SimpleNamespace, TracebackType
from typing import Any

from tests.simulation.kernel import Actor, Killed, kernel


class Signal:
    """Wakes those who wait for it."""

    def __init__(self) -> None:
        self._waiting: list[Actor] = []

    def wait(self, timeout: float | None) -> None:
        """Until notified, or so long; spurious wake-ups are possible."""
        me = kernel().current
        self._waiting.append(me)
        try:
            kernel().sleep(1e6 if timeout is None else timeout)
        finally:
            self._waiting.remove(me)

    def notify_all(self) -> None:
        for actor in self._waiting:
            kernel().wake(actor)


class Event:
    def __init__(self) -> None:
        self._is_set = False
        self._changed = Signal()

    def is_set(self) -> bool:
        if kernel().current.is_killed:
            raise Killed
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._changed.notify_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else kernel().now + timeout
        while not self._is_set and (until is None or kernel().now < until):
            self._changed.wait(None if until is None else until - kernel().now)
        return self._is_set


class Lock:
    def __init__(self) -> None:
        self._is_locked = False
        self._changed = Signal()

    def acquire(self, timeout: float = -1.0) -> bool:
        until = None if timeout < 0 else kernel().now + timeout
        while self._is_locked:
            if until is not None and kernel().now >= until:
                return False
            self._changed.wait(None if until is None else until - kernel().now)
        self._is_locked = True
        return True

    def release(self) -> None:
        self._is_locked = False
        self._changed.notify_all()

    def locked(self) -> bool:
        return self._is_locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Condition(Lock):
    """Its lock needs no keeping: nobody else runs between two operations."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float | None = None) -> None:
        self._changed.wait(timeout)

    def notify_all(self) -> None:
        self._changed.notify_all()


class Thread:
    """An actor of the process that starts it."""

    def __init__(
        self, target: Callable[[], object], name: str = "", daemon: bool = False, args: tuple[Any, ...] = ()
    ) -> None:
        self._run, self._name = (lambda: target(*args)), name
        self._actor: Actor | None = None

    def start(self) -> None:
        self._actor = kernel().spawn(kernel().current.process, self._name, self._run)

    def join(self, timeout: float | None = None) -> None:
        until = kernel().now + (1e6 if timeout is None else timeout)
        while self._actor is not None and not self._actor.is_done and kernel().now < until:
            kernel().sleep(0.05)


class Timer(Thread):
    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        def run() -> None:
            kernel().sleep(seconds)
            act()

        super().__init__(run, "timer")


class Future:
    def __init__(self) -> None:
        self.has_ended = Event()
        self.answer: Any = None
        self.error: Exception | None = None

    def done(self) -> bool:
        return self.has_ended.is_set()

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


class Executor:
    """Each task in a thread of its own; the code under test never has two at once."""

    def __init__(self, workers: int, thread_name_prefix: str = "", initializer: object = None) -> None:
        self._name = thread_name_prefix  # threads have no priority here, so nothing is to be initialized

    def submit(self, run: Callable[..., Any], *arguments: Any) -> Future:
        future = Future()

        def work() -> None:
            try:
                future.answer = run(*arguments)
            except Exception as error:  # noqa: BLE001 - told by ``result``, as a real one does
                future.error = error
            future.has_ended.set()

        kernel().spawn(kernel().current.process, self._name, work)
        return future


def wait_for(futures: Iterable[Future], timeout: float) -> None:
    """Twenty times as patient as it is asked to be: ticks in which nothing happens cost time."""
    for future in futures:
        future.has_ended.wait(20 * timeout)


class Instants:
    """``datetime`` on the virtual wall clock."""

    @staticmethod
    def now(zone: tzinfo = UTC) -> datetime:
        return datetime.fromtimestamp(kernel().wall_clock(), zone)


class Log:
    """Messages of the product become part of the trail; what must never be logged ends the schedule."""

    _NEVER = frozenset({"claim.failed", "reconciler.tick_failed", "trainer.unkillable"})

    def bind(self, **_: object) -> "Log":
        return self

    def info(self, event: str, **more: object) -> None:
        kernel().note(event, more)

    warning = error = info

    def exception(self, event: str, **more: object) -> None:
        kernel().note(event, more)
        if event in self._NEVER:
            kernel().fail(AssertionError(f"{event}: {sys.exception()!r}"))


def _exit(code: int) -> None:
    kernel().kill(kernel().current.process, code)
    raise Killed


def _pipe() -> tuple[Event, Event]:
    woken = Event()
    return woken, woken


TIME = SimpleNamespace(
    monotonic=lambda: kernel().monotonic(),
    time=lambda: kernel().wall_clock(),
    thread_time=lambda: 0.0,
    sleep=lambda seconds: kernel().sleep(seconds),
    clock_gettime=lambda clock: kernel().boot_clock(),
    CLOCK_BOOTTIME=getattr(time, "CLOCK_BOOTTIME", 0),
    CLOCK_MONOTONIC=time.CLOCK_MONOTONIC,
)
THREADING = SimpleNamespace(Lock=Lock, Event=Event, Condition=Condition, Thread=Thread, Timer=Timer)
#: A supervisor wakes itself by a pipe; here by an event that stands for both its ends.
OS = SimpleNamespace(
    pipe=_pipe,
    set_blocking=lambda fd, blocking: None,
    write=lambda fd, data: fd.set(),
    read=lambda fd, size: fd.clear(),
    _exit=_exit,
)
RANDOM = SimpleNamespace(uniform=lambda a, b: kernel().random.uniform(a, b))  # noqa: PLW0108 - of each schedule
