"""What a trainer does while the checkpoint store is full or away: it says so and tries again, for a while."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from models.errors import StorageFailed
from worker.messages import CheckpointDelayed
from worker.training.session import Session

LONGEST_PAUSE_SECONDS = 15.0

T = TypeVar("T")


def persistently(session: Session, patience_seconds: float, use_store: Callable[[], T]) -> T:
    """The answer of ``use_store``, which may be called many times.

    Raises StorageFailed once patience is spent: the attempt ends, and another worker may do better.
    Any thread may wait here: it looks at no requests.
    """
    give_up_at = time.monotonic() + patience_seconds
    for pause in _pauses():
        try:
            return use_store()
        except StorageFailed as error:
            if time.monotonic() + pause > give_up_at:
                raise
            session.send(CheckpointDelayed(error.message, pause))
        time.sleep(pause)
    raise AssertionError("pauses never end")


def _pauses() -> Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
