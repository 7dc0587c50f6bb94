"""Readiness is asked for every second; the store is tried now and then."""

import threading
from typing import Any

from api.store_health import TRY_EVERY_SECONDS, StoreHealth
from models.errors import StorageFailed


class Store:
    def __init__(self) -> None:
        self.num_probes = 0
        self.is_good = True
        self.hangs: threading.Event | None = None
        self.reached = threading.Event()

    def probe(self) -> None:
        self.num_probes += 1
        self.reached.set()
        if self.hangs is not None:
            self.hangs.wait(10)
        if not self.is_good:
            raise StorageFailed


def test_an_answer_is_good_for_a_while() -> None:
    store: Any = Store()
    now = [100.0]
    health = StoreHealth(store, clock=lambda: now[0])
    assert health.is_good()
    store.is_good = False
    now[0] += TRY_EVERY_SECONDS - 0.1
    assert health.is_good() and store.num_probes == 1
    now[0] += 0.1
    assert not health.is_good() and not health.is_good()
    assert store.num_probes == 2


def test_while_one_waits_for_a_store_that_hangs_the_others_do_not() -> None:
    store: Any = Store()
    store.hangs = threading.Event()
    health = StoreHealth(store)
    waiting = threading.Thread(target=health.is_good)
    waiting.start()
    assert store.reached.wait(10)
    assert health.is_good() and store.num_probes == 1
    store.hangs.set()
    waiting.join(10)
