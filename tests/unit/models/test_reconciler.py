"""The reconciler is patient after trouble, and outlives any surprise."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from models import reconciler as module
from models.database import Database
from models.errors import DatabaseUnavailable
from models.reconciler import Reconciler
from models.settings import Settings
from tests.servers.waiting import until

LEASE = 15.0


@dataclass
class FakeStore:
    """A database that is there or away, and a clock that is set by hand."""

    now: float = 1000.0
    is_away: bool = False
    waiting: list[str] = field(default_factory=list)
    expired: list[float] = field(default_factory=list)  #: when somebody looked for lost leases
    surprise: Exception | None = None
    look: Callable[[], object] = lambda: None

    def expire_lost_leases(self, db: object, lease_seconds: float) -> list[str]:
        self._answer()
        assert lease_seconds == LEASE
        self.expired.append(self.now)
        return []

    def release_dead_checks(self, db: object) -> list[str]:
        self._answer()
        return []

    def claimable_classes(self, db: object) -> list[str]:
        self._answer()
        return self.waiting

    def _answer(self) -> None:
        self.look()
        if self.surprise is not None:
            raise self.surprise
        if self.is_away:
            raise DatabaseUnavailable


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore()
    monkeypatch.setattr(module, "job_store", fake)
    monkeypatch.setattr(module, "dataset_store", fake)
    monkeypatch.setattr(module, "boot_time_clock", lambda: fake.now)
    return fake


def reconciler(rung: list[str] | None = None, **settings: Any) -> Reconciler:
    bells = [] if rung is None else rung
    return Reconciler(cast(Database, None), Settings(lease_seconds=LEASE, **settings), bells.append)


def test_a_tick_expires_and_rings_for_each_class_that_waits(store: FakeStore) -> None:
    rung: list[str] = []
    ticking = reconciler(rung)
    ticking.tick()
    assert (store.expired, rung) == ([1000.0], [])
    store.waiting = ["any", "cuda"]
    ticking.tick()
    assert rung == ["any", "cuda"]


def test_after_the_database_was_away_nothing_is_taken_back_for_one_lease(store: FakeStore) -> None:
    rung: list[str] = []
    ticking = reconciler(rung)
    store.is_away, store.waiting = True, ["cpu"]
    ticking.tick()
    store.is_away = False
    for store.now in (1000.1, 1007.0, 1014.9):
        ticking.tick()
    assert store.expired == [], "workers that were cut off too renew first"
    assert rung == ["cpu"] * 3, "bells harm nobody"
    store.now = 1015.0
    ticking.tick()
    assert store.expired == [1015.0]


def test_patience_counts_from_the_last_trouble(store: FakeStore) -> None:
    ticking = reconciler()
    store.is_away = True
    for store.now in (1000.0, 1010.0, 1020.0):
        ticking.tick()
    store.is_away = False
    store.now = 1034.9
    ticking.tick()
    assert store.expired == []
    store.now = 1035.0
    ticking.tick()
    assert store.expired == [1035.0]


def test_a_database_that_goes_between_the_two_looks(store: FakeStore) -> None:
    ticking = reconciler()
    store.look = lambda: setattr(store, "is_away", bool(store.expired))
    ticking.tick()
    assert store.expired == [1000.0]
    store.look, store.is_away = lambda: None, False
    ticking.tick()
    assert store.expired == [1000.0]


def test_the_thread_outlives_any_surprise(store: FakeStore) -> None:
    ticking = reconciler(reconcile_seconds=0.01)
    looks = threading.Semaphore(0)
    store.look = looks.release
    store.surprise = RuntimeError("a bug")
    ticking.start()
    try:
        for _ in range(3):
            assert looks.acquire(timeout=10)
        store.surprise = None
        until(lambda: store.expired, what="an expiry after the surprises")
    finally:
        ticking.stop()


def test_a_process_that_was_frozen_lets_everybody_renew_first(store: FakeStore) -> None:
    """A suspended machine thaws into a world of expired leases."""
    ticking = reconciler(reconcile_seconds=0.01)

    def freeze_once() -> None:
        if store.now == 1000.0:
            store.now = 1000.0 + LEASE

    store.look = freeze_once
    ticking.start()
    try:
        until(lambda: store.now > 1000.0)
        looked: list[int] = []
        store.look = lambda: looked.append(1)
        until(lambda: len(looked) > 5, what="ticks after the thaw")
        assert store.expired == [1000.0 + LEASE], "the look under way as it froze, and no other"
        store.now += LEASE
        until(lambda: len(store.expired) > 1, what="an expiry one lease later")
    finally:
        ticking.stop()


def test_stopping_ends_the_thread(store: FakeStore) -> None:
    ticking = reconciler(reconcile_seconds=0.01)
    ticking.start()
    ticking.stop()
    assert not ticking._thread.is_alive()
