"""Processes as a user would start them, made to fit a machine that runs other tests as well."""

import os
import random
import signal
from collections.abc import Callable

from tests.servers.guard import die_with_tests


def clean_environment(**settings: object) -> dict[str, str]:
    """The environment of these tests without any setting of Perdure's but ``settings``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    return inherited | {name: str(value) for name, value in settings.items()}


def on_one_core() -> Callable[[], None]:
    """A ``preexec_fn``: dies with the tests, hears Ctrl-C, and sees a machine of one core.

    Two processes of two threads each take many times as long on two cores as two of one thread.
    """
    guard = die_with_tests()
    core = random.choice(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_setaffinity") else None

    def prepare() -> None:
        guard()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in a background job inherit that it is ignored
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare
