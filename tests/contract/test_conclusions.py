"""What a worker makes of the end of a turn: a loss without bounds, and a bug of its own."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import worker.supervisor
from models import job_store
from models.errors import NonFiniteLoss
from models.host import ProcessId
from models.job_state import EndCause
from models.job_store import Fence
from models.settings import Settings
from models.storage import LocalStorage
from tests.contract.world import World, at_once, owner
from worker.attempt import Attempt
from worker.conclusion import Conclusions
from worker.health import Health
from worker.messages import Failed, Slot
from worker.stall_watch import StallWatch
from worker.supervisor import Supervisor
from worker.turn import Turn

ROUNDS = 30
SLOT = Slot("cpu", 1, "test", 0)
ROLLBACK = {"on_non_finite": "rollback"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


# -- A loss without bounds ---------------------------------------------------------------------------


@pytest.fixture
def see_a_nan(world: World, settings: Settings, tmp_path: Path) -> Callable[[Fence], Turn | None]:
    """The job's trainer reports one; the next turn if the job stays with its worker."""
    drawn = Conclusions(
        world.db, settings, owner(), SLOT, Health(), is_leaving=lambda: False, stand_aside=lambda why: None
    )

    def see(fence: Fence) -> Turn | None:
        job = world.job(fence.job_id)
        attempt = Attempt(
            world.db, LocalStorage(tmp_path / "store"), fence, job, SLOT, StallWatch(0.0), threading.Event(),
            verdict=Failed(NonFiniteLoss.code, "The loss became NaN at step 27.", retryable=False),
        )  # fmt: skip
        return drawn.draw(Turn(fence, job, [], 0.0), attempt, None)

    return see


@pytest.mark.parametrize(("request_", "status"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_request_that_came_before_the_nan_is_granted(
    world: World, see_a_nan: Callable[[Fence], Turn | None], request_: str, status: str
) -> None:
    fence = world.running(fault_tolerance=ROLLBACK)
    world.prepare(fence)
    getattr(job_store, request_)(world.db, fence.job_id)
    assert see_a_nan(fence) is None
    job = world.job(fence.job_id)
    assert (job.status, job.error_code) == (status, None)


def test_a_pause_against_a_nan_ends_paused(world: World, see_a_nan: Callable[[Fence], Turn | None]) -> None:
    for _ in range(ROUNDS):
        fence = world.running(fault_tolerance=ROLLBACK)
        world.prepare(fence)
        paused, turn = at_once(
            lambda f=fence: job_store.pause(world.db, f.job_id), lambda f=fence: see_a_nan(f)
        )
        assert not isinstance(paused, BaseException) and not isinstance(turn, BaseException)
        if turn is not None:  # rolled back first: the request waits for the next trainer's first boundary
            assert world.job(fence.job_id).pause_requested
            job_store.release(world.db, turn.fence, EndCause.PREEMPTED, "Stopped at a checkpoint.")
        assert world.job(fence.job_id).status == "paused"


def test_after_five_rollbacks_it_fails(world: World, see_a_nan: Callable[[Fence], Turn | None]) -> None:
    fence = world.running(fault_tolerance=ROLLBACK)
    for _ in range(5):
        turn = see_a_nan(fence)
        assert turn is not None
        fence = turn.fence
    assert see_a_nan(fence) is None
    assert world.job(fence.job_id).error_code == "non_finite_loss"


# -- A bug of the worker -----------------------------------------------------------------------------


class Unreadable:
    """A trainer whose words the worker's own code trips over."""

    id = ProcessId(4242, 17.5)
    told: list[str]  #: set by the test

    def __init__(self, *_: Any) -> None:
        pass

    def exited(self) -> None:
        return None

    def receive(self, timeout: float, wake_fd: int) -> list[Any]:
        raise KeyError("a secret of the worker")

    def send(self, message: Any) -> None:
        pass

    def kill(self) -> None:
        self.told.append("killed")

    def close(self) -> None:
        self.told.append("closed")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order, in a worker whose code has a bug."""
    told: list[str] = []
    restart = job_store.restart_attempt

    def restart_attempt(*arguments: Any, **more: Any) -> Any:
        told.append("given back")
        return restart(*arguments, **more)

    monkeypatch.setattr(Unreadable, "told", told, raising=False)
    monkeypatch.setattr(worker.supervisor, "SpawnedTrainer", Unreadable)
    monkeypatch.setattr(job_store, "restart_attempt", restart_attempt)
    return told


@pytest.fixture
def supervisor(world: World, settings: Settings, told: list[str]) -> Supervisor:
    return Supervisor(world.db, settings, owner(), SLOT, None)


def test_a_bug_of_the_worker_gives_the_job_to_others_at_once(
    world: World, supervisor: Supervisor, told: list[str]
) -> None:
    job_id = world.submit()
    supervisor.work_until_idle()  # until it leaves the job to others for a while
    job = world.job(job_id)
    assert (job.status, job.failures, job.recoveries) == ("queued", 2, 2)
    assert [line.end_cause for line in world.attempts(job_id)] == ["worker_error"] * 2
    assert told == ["killed", "closed", "given back"] * 2, "never two trainers of one job"
    assert "secret" not in str(world.dump()), "what the error says is for the worker's log"
    claim = world.claim(owner("wrk_2"))
    assert claim is not None and claim.job.id == job_id


def test_a_job_that_is_always_the_end_of_its_worker_is_given_up(world: World, supervisor: Supervisor) -> None:
    job_id = world.submit(fault_tolerance={"max_failures": 2})
    supervisor.work_until_idle()
    job = world.job(job_id)
    assert (job.status, job.error_code) == ("failed", "no_progress")
    assert "KeyError" in job.error_message


def test_a_worker_that_fails_with_job_after_job_stands_aside_and_spares_the_rest(
    world: World, supervisor: Supervisor
) -> None:
    for name in ("wrk_1", "wrk_2"):
        job_store.register_worker(world.db, owner(name), device="cpu", slot="s", threads=1, version="1")
    made = [world.submit() for _ in range(3)]
    supervisor.work_until_idle()
    assert [world.job(job_id).failures for job_id in made] == [2, 0, 0]
    assert {world.job(job_id).status for job_id in made} == {"queued"}
    [mine] = [row for row in job_store.list_workers(world.db) if row.id == "wrk_1"]
    assert mine.status == "quarantined"
