"""Processes that tests start must not outlive them, not even when the tests are killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing may be loaded, since another thread may hold the loader's lock.
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def die_with_tests(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn``: the child gets this signal as soon as the *thread* that starts it ends (Linux)."""
    tests = os.getpid()

    def guard() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != tests:  # they ended before the call took effect
            os._exit(1)

    return guard
