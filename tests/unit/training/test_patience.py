"""A store that is away says nothing about a checkpoint: waited for, never held against the file."""

import hashlib
import io
from types import SimpleNamespace
from typing import IO, Any

import pytest

from models.errors import StorageFailed
from worker.messages import CheckpointDelayed, CheckpointRef, CheckpointRejected, FileRef
from worker.training import patience, resumption
from worker.training.resumption import newest_usable

WHOLE = b"the bytes that were recorded"
FILE = FileRef("jobs/j/c.pth", hashlib.sha256(WHOLE).hexdigest(), len(WHOLE))
PATIENCE_SECONDS = 300.0
TASK: Any = SimpleNamespace(
    checkpoints=[CheckpointRef("ckpt_1", FILE, None, 1, 7, 0.5)], store_patience_seconds=PATIENCE_SECONDS
)


class Away:
    """Answers at the call after so many."""

    def __init__(self, calls: float) -> None:
        self.calls_left = calls

    def open(self, key: str) -> IO[bytes]:
        if self.calls_left:
            self.calls_left -= 1
            raise StorageFailed("The store is away.")
        return io.BytesIO(WHOLE)


class Session:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, message: Any) -> None:
        self.said.append(message)

    def progress(self, *_: Any) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves."""
    now = [0.0]
    moved = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(patience, "time", moved)
    return moved


def test_a_store_that_comes_back_costs_no_checkpoint(clock: SimpleNamespace) -> None:
    session: Any = Session()
    found = newest_usable(TASK, Away(3), session)  # type: ignore[arg-type]
    assert found is not None and found.ref.id == "ckpt_1"
    assert [type(message) for message in session.said] == [CheckpointDelayed] * 3


def test_one_that_stays_away_ends_the_attempt_and_rejects_nothing(clock: SimpleNamespace) -> None:
    session: Any = Session()
    with pytest.raises(StorageFailed, match="away"):
        resumption.newest_usable(TASK, Away(float("inf")), session)  # type: ignore[arg-type]
    assert clock.monotonic() == pytest.approx(PATIENCE_SECONDS, abs=15)
    assert not [message for message in session.said if isinstance(message, CheckpointRejected)]
