"""Tests await conditions with deadlines; they never sleep and hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], *, seconds: float = 10.0, what: str = "", every: float = 0.01) -> T:
    """The first truthy answer of ``look``. Fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or look}")
        time.sleep(every)
    return answer
