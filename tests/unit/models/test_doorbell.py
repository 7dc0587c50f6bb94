"""Ringing costs its caller nothing, whatever the broker does."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import models.queue
from models.queue import TASK_NAME, Doorbell, celery_app, queue_name
from tests.servers.waiting import until

AT_ONCE_SECONDS = 0.2  #: generous: it takes microseconds

NewDoorbell = Callable[[str], Doorbell]


@pytest.fixture
def doorbell_at() -> Iterator[NewDoorbell]:
    made: list[Doorbell] = []

    def make(url: str) -> Doorbell:
        made.append(Doorbell(url))
        return made[-1]

    yield make
    for doorbell in made:
        doorbell.close()


class Sender:
    """Notes what is sent; may be held up, or fail."""

    def __init__(self, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.options: dict[str, Any] = {}
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None
        self.calls = 0
        monkeypatch.setattr(doorbell._app, "send_task", self)

    def __call__(self, name: str, *, queue: str, **options: Any) -> None:
        assert name == TASK_NAME
        self.calls += 1
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        self.options = options
        self.sent.append(queue)


@pytest.fixture
def doorbell(doorbell_at: NewDoorbell) -> Doorbell:
    return doorbell_at("memory://")


def test_a_bell_goes_to_the_queue_of_its_class(doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(doorbell, monkeypatch)
    for device_class in ("any", "cuda"):
        doorbell.ring(device_class)
    until(lambda: len(sender.sent) == 2)
    assert sorted(sender.sent) == [queue_name("any"), queue_name("cuda")] == ["perdure.any", "perdure.cuda"]
    assert sender.options["retry"] is False, "a bell is never sent a second time"


def test_bells_that_wait_are_one_bell(doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(doorbell, monkeypatch)
    sender.open.clear()
    doorbell.ring("cpu")
    until(lambda: sender.calls == 1)
    began = time.monotonic()
    for _ in range(1000):
        doorbell.ring("cpu")
    assert time.monotonic() - began < AT_ONCE_SECONDS, "nobody waits for the one under way"
    sender.open.set()
    until(lambda: len(sender.sent) == 2)
    doorbell.ring("any")
    until(lambda: "perdure.any" in sender.sent)
    assert sender.sent == ["perdure.cpu", "perdure.cpu", "perdure.any"]


def test_a_bell_that_cannot_be_sent_is_forgotten(doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(doorbell, monkeypatch)
    sender.error = ConnectionError("away")
    doorbell.ring("cpu")
    until(lambda: sender.calls == 1)
    sender.error = None
    doorbell.ring("any")
    until(lambda: sender.sent == ["perdure.any"])
    assert sender.calls == 2


def test_a_broker_that_is_away_is_tried_now_and_then(
    doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each job: a failed try costs milliseconds, which a burst of submissions needs itself."""
    monkeypatch.setattr(models.queue, "AWAY_SECONDS", 0.4)
    sender = Sender(doorbell, monkeypatch)
    sender.error = ConnectionError("away")
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        doorbell.ring("cpu")
    assert 2 <= sender.calls <= 3
    sender.error = None
    until(lambda: sender.sent == ["perdure.cpu"], what="what was rung meanwhile, once it is back")


def test_no_bell_is_sent_after_the_end(doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(doorbell, monkeypatch)
    doorbell.close()
    doorbell.ring("cpu")
    until(lambda: not any(t.name == "doorbell" and t.is_alive() for t in threading.enumerate()))
    assert sender.calls == 0


def test_a_dead_broker_costs_nothing(doorbell_at: NewDoorbell, tmp_path: Path) -> None:
    doorbell = doorbell_at(f"redis+socket://{tmp_path}/none.sock")
    for _ in range(3):
        began = time.monotonic()
        doorbell.ring("any")
        assert time.monotonic() - began < AT_ONCE_SECONDS
    assert not doorbell.ping(timeout=0.2)


@pytest.fixture
def hung_broker(tmp_path: Path) -> Iterator[str]:
    """It takes connections and never says a word."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(100)
        yield f"redis+socket://{path}"


def test_a_hung_broker_costs_nothing(doorbell_at: NewDoorbell, hung_broker: str) -> None:
    doorbell = doorbell_at(hung_broker)
    for device_class in ("any", "cpu", "any"):
        began = time.monotonic()
        doorbell.ring(device_class)
        assert time.monotonic() - began < AT_ONCE_SECONDS


def test_the_queue_is_configured_as_measured() -> None:
    """Each of these was a lost or doubled job once."""
    conf = celery_app("memory://").conf
    assert conf.task_acks_late is False
    assert conf.worker_disable_prefetch is True
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.broker_connection_retry_on_startup is True
    assert conf.broker_connection_max_retries is None
    assert (conf.task_ignore_result, conf.result_backend) == (True, None)
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json")
    assert (conf.task_time_limit, conf.worker_max_tasks_per_child) == (None, None)
