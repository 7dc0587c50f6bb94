"""What a supervisor does about a trainer that hangs, and in which order it records and deletes."""

import math
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import LeaseLost
from models.job_state import EndCause
from models.job_store import Fence, Requests
from models.job_store.checkpoints import Committed
from models.settings import Settings
from models.storage import LocalStorage
from worker import attempt as module
from worker.attempt import Attempt
from worker.conclusion import Death
from worker.messages import Cancel, CheckpointWritten, FileRef, Parked, Progress, Slot, Stop, Stopped
from worker.stall_watch import StallWatch
from worker.supervisor import Supervisor
from worker.turn import Turn

FENCE = Fence("job_1", 1)
NOTHING = Requests(cancel=False, pause=False)


class SilentTrainer:
    """It lives and says nothing."""

    def exited(self) -> None:
        return None

    def signal(self, number: int) -> None:
        """Asked for its stacks, it is silent, too."""

    def receive(self, timeout: float, wake_fd: int) -> list[Any]:
        time.sleep(0.01)
        return []


class SlowWriter(SilentTrainer):
    """It writes a checkpoint, byte by byte, and then it stops."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.told.append(message)

    def receive(self, timeout: float, wake_fd: int) -> list[Any]:
        super().receive(timeout, wake_fd)
        self.looks -= 1
        return [Progress("checkpoint", -self.looks, 0)] if self.looks else [Stopped()]


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    settings = Settings(home=tmp_path)
    owner: Any = None
    return Supervisor(owner, settings, owner, Slot("cpu", 1, "test", 0), None)


def follow(
    supervisor: Supervisor,
    storage: LocalStorage,
    trainer: Any = None,
    *,
    is_lost: bool = False,
    requests: Requests = NOTHING,
    stall_seconds: float = 0.05,
) -> Death | None:
    """Ends by itself, or else after some seconds."""
    job: Any = SimpleNamespace(max_runtime_seconds=None, running_seconds=0.0, steps=None)
    attempt = attempt_at(storage, StallWatch(time.monotonic(), least_seconds=stall_seconds))
    attempt._flushed_at = math.inf  # there is no database
    lease: Any = SimpleNamespace(lost=is_lost, requests=requests)
    threading.Timer(5.0, lambda: setattr(lease, "lost", True)).start()
    return supervisor._follow(Turn(FENCE, job, [], 0.0), attempt, trainer or SilentTrainer(), lease)


def attempt_at(storage: LocalStorage, watch: StallWatch) -> Attempt:
    nobody: Any = None
    job: Any = SimpleNamespace(spec={"fault_tolerance": {"keep_last": 2}}, steps=None)
    return Attempt(nobody, storage, FENCE, job, Slot("cpu", 1, "test", 0), watch, threading.Event())


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def test_a_trainer_without_progress_is_given_up_though_its_lease_holds(
    supervisor: Supervisor, storage: LocalStorage
) -> None:
    death = follow(supervisor, storage)
    assert death is not None and death.cause == EndCause.STALLED


def test_a_trainer_that_hangs_while_parked_is_given_up_when_its_lease_is_renewed(
    storage: LocalStorage,
) -> None:
    attempt = attempt_at(storage, StallWatch(time.monotonic(), least_seconds=0.05))
    attempt.handle(Parked(True))
    assert attempt.watch.stalled_for(time.monotonic() + 3600.0) is None
    attempt.pass_on_heartbeat(1.0)
    assert attempt.watch.stalled_for(time.monotonic() + 3600.0) is not None


@pytest.mark.parametrize("why", ["pause", "drain", "sigterm", "cancel"])
def test_a_pause_takes_as_long_as_its_checkpoint_and_a_leaving_worker_has_no_time(
    why: str, supervisor: Supervisor, storage: LocalStorage
) -> None:
    supervisor._patience_seconds = dict.fromkeys(supervisor._patience_seconds, 0.05)
    if why == "sigterm":
        supervisor.stop()
    if why == "drain":
        supervisor.stand_aside("drained")
    requests = Requests(cancel=why == "cancel", pause=why == "pause")
    trainer = SlowWriter(looks=30)
    death = follow(supervisor, storage, trainer, requests=requests, stall_seconds=5.0)
    assert trainer.told == [Cancel() if why == "cancel" else Stop()]
    if why in {"pause", "drain"}:
        assert death is None and trainer.looks == 0
    else:
        assert death is not None and death.cause == EndCause.PREEMPTED


def test_a_trainer_that_does_not_answer_a_pause_is_given_up(
    supervisor: Supervisor, storage: LocalStorage
) -> None:
    class Deaf(SilentTrainer):
        def send(self, message: Any) -> None:
            pass

    death = follow(supervisor, storage, Deaf(), requests=Requests(cancel=False, pause=True))
    assert death is not None and death.cause == EndCause.STALLED


def test_whoever_lost_the_lease_stops_at_once(supervisor: Supervisor, storage: LocalStorage) -> None:
    with pytest.raises(LeaseLost):
        follow(supervisor, storage, is_lost=True)


def test_what_retention_lets_go_is_deleted_after_the_commit_and_nothing_else(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"jobs/job_1/checkpoints/epoch-000{n}.step-00000{n}.attempt-1.ckpt_{n}.pth" for n in range(1, 5)]
    for key in keys:
        storage.write(key, lambda sink: sink.write(b"content"))
    there: list[list[str]] = []

    def commit_checkpoint(*_: Any, **__: Any) -> Committed:
        there.append(list(storage.keys("jobs/job_1")))
        return Committed(NOTHING, keys[:1])

    monkeypatch.setattr(module.job_store, "commit_checkpoint", commit_checkpoint)
    attempt = attempt_at(storage, StallWatch(time.monotonic()))
    attempt._swept = True
    attempt.handle(
        CheckpointWritten(
            id="ckpt_4", file=FileRef(keys[3], "00", 7), frozen=None, epoch=4, epochs_done=4, step=4,
            val_loss=0.5, epochs=[], stall_seconds=0.0, write_seconds=0.0,
        )
    )  # fmt: skip
    assert there == [keys], "until it is recorded, all of them are needed"
    assert list(storage.keys("jobs/job_1")) == keys[1:]
