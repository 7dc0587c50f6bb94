"""The faults of a soak: each is begun in a moment and, where it lasts, ended by a timer."""

import contextlib
import heapq
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil
from sqlalchemy import select

from models.queue import TASK_NAME, celery_app, queue_name
from models.tables import jobs
from tests.servers.proxy import Proxy
from tests.soak import store_faults
from tests.soak.client import Client
from tests.soak.fleet import LEASE_SECONDS, NUM_APIS, NUM_WORKERS, Fleet
from tests.soak.schedule import Strike
from tests.stack import kill_tree, signal_all

Told = dict[str, Any]


class Chaos:
    """Carries out one strike after another, and knows what is to be ended when."""

    def __init__(self, fleet: Fleet, client: Client) -> None:
        self.fleet = fleet
        self.client = client
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._num_timers = 0

    def strike(self, strike: Strike) -> None:
        told = FAULTS[strike.fault][1](self, strike.target, strike.share)
        self.fleet.history.add("fault", name=strike.fault, **told)

    def tick(self) -> None:
        """End what has lasted long enough."""
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def end(self) -> None:
        """No fault lasts beyond this."""
        self._timers.clear()
        self.fleet.heal()
        store_faults.make_room(self.fleet)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self._num_timers += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._num_timers, action))

    # -- Processes -------------------------------------------------------------------------------

    def kill_trainer(self, target: int, share: float) -> Told:
        return self._kill_part("trainer", target)

    def kill_zygote(self, target: int, share: float) -> Told:
        return self._kill_part("zygote", target)

    def kill_supervisor(self, target: int, share: float) -> Told:
        return self._signal(target, signal.SIGKILL)

    def stop_worker(self, target: int, share: float) -> Told:
        return self._signal(target, signal.SIGTERM)

    def kill_worker(self, target: int, share: float) -> Told:
        number = self._busy(target)
        kill_tree(self.fleet.workers[number].pid)
        return {"worker": number}

    def kill_api(self, target: int, share: float) -> Told:
        number = target % NUM_APIS
        kill_tree(self.fleet.apis[number].pid)
        return {"api": number}

    def freeze_worker(self, target: int, share: float) -> Told:
        """Past its lease, mostly; then it goes on where it was."""
        number, seconds = self._busy(target), LEASE_SECONDS * (0.5 + 1.5 * share)
        held = self.fleet.held_by(number)
        frozen = self.fleet.freeze(number)
        self.later(seconds, lambda: self._thaw(number, frozen, held))
        return {"worker": number, "seconds": seconds, "held": held}

    def freeze_trainer(self, target: int, share: float) -> Told:
        """Alive without progress: its supervisor has to notice, and kills it."""
        number = self._busy(target)
        trainer = self.fleet.find(number, "trainer")
        if trainer is None:
            return {"nothing": True}
        self.fleet.suspend([trainer])
        return {"worker": number, "pid": trainer.pid}

    def kill_everything(self, target: int, share: float) -> Told:
        for process in [*self.fleet.workers, *self.fleet.apis]:
            kill_tree(process.pid)
        for server in (self.fleet.postgres, self.fleet.valkey):
            if server.is_running:
                server.kill()
        return {}

    # -- Servers ---------------------------------------------------------------------------------

    def kill_broker(self, target: int, share: float) -> Told:
        return self._away("valkey", self.fleet.valkey.kill, 3.0 * share)

    def restart_database(self, target: int, share: float) -> Told:
        return self._away("postgres", self.fleet.postgres.stop_immediately, 3.0 * share)

    def flush_broker(self, target: int, share: float) -> Told:
        with contextlib.suppress(OSError):
            self.fleet.valkey.command("FLUSHALL")
        return {}

    def ring_wildly(self, target: int, share: float) -> Told:
        bell = celery_app(self.fleet.valkey.url)
        with contextlib.suppress(Exception):
            for _ in range(50):
                bell.send_task(TASK_NAME, queue=queue_name("any"), retry=False)
        return {}

    # -- Networks --------------------------------------------------------------------------------

    def partition_database(self, target: int, share: float) -> Told:
        """One worker, or the API processes, or everybody; connections survive it or not."""
        everybody = target % 7 == 0
        proxies = self.fleet.proxies if everybody else [self._proxy(target)]
        seconds, cut = LEASE_SECONDS * (0.2 + 1.6 * share), target % 2 == 0
        for proxy in proxies:
            proxy.blackhole()
            self.later(seconds, lambda proxy=proxy: proxy.heal(cut=cut))  # type: ignore[misc]
        return {"proxies": len(proxies), "which": target % len(self.fleet.proxies), "seconds": seconds}

    def cut_database(self, target: int, share: float) -> Told:
        return {"cut": self._proxy(target).cut()}

    def lose_reply(self, target: int, share: float) -> Told:
        self._proxy(target).drop_reply_after(b"")
        return {"which": target % len(self.fleet.proxies)}

    def partition_broker(self, target: int, share: float) -> Told:
        self.fleet.broker_proxy.blackhole()
        self.later(4.0 * share, self.fleet.broker_proxy.heal)
        return {"seconds": 4.0 * share}

    # -- Files -----------------------------------------------------------------------------------

    def corrupt_checkpoint(self, target: int, share: float) -> Told:
        return store_faults.damage(self.fleet, target, lambda file: store_faults.flip_a_byte(file, share))

    def delete_checkpoint(self, target: int, share: float) -> Told:
        return store_faults.damage(self.fleet, target, lambda file: file.unlink())

    def fill_store(self, target: int, share: float) -> Told:
        """For one worker, or for all."""
        seconds = LEASE_SECONDS * (0.3 + 0.7 * share)
        numbers = range(NUM_WORKERS) if target % 2 else [self._busy(target)]
        for number in numbers:
            store_faults.fill(self.fleet, number)
        self.later(seconds, lambda: store_faults.make_room(self.fleet))
        return {"workers": list(numbers), "seconds": seconds}

    # -- Users -----------------------------------------------------------------------------------

    def change_mind(self, target: int, share: float) -> Told:
        """Pause or cancel a job; later it goes on."""
        found = self.fleet.rows(select(jobs.c.id).where(jobs.c.status.in_(["running", "queued"])))
        if not found:
            return {"nothing": True}
        job_id = found[target % len(found)].id
        stop, again = (("pause", "resume"), ("cancel", "retry"))[target % 2]
        answer = self.client.ask("POST", f"/jobs/{job_id}/{stop}", json={})
        self.later(5.0 * share, lambda: self.client.ask("POST", f"/jobs/{job_id}/{again}", json={}))
        return {"job_id": job_id, "asked": stop, "status": answer and answer.status_code}

    # -- Details ---------------------------------------------------------------------------------

    def _proxy(self, target: int) -> Proxy:
        return self.fleet.proxies[target % len(self.fleet.proxies)]

    def _busy(self, target: int) -> int:
        """The first worker from the drawn one on that trains; the drawn one if none does."""
        order = [(target + offset) % NUM_WORKERS for offset in range(NUM_WORKERS)]
        return next((number for number in order if self.fleet.find(number, "trainer")), order[0])

    def _kill_part(self, part: str, target: int) -> Told:
        number = self._busy(target)
        process = self.fleet.find(number, part)
        if process is None:
            return {"nothing": True}
        signal_all([process], signal.SIGKILL)
        return {"worker": number, "pid": process.pid}

    def _signal(self, target: int, number: signal.Signals) -> Told:
        worker = self._busy(target)
        self.fleet.workers[worker].send_signal(number)
        return {"worker": worker, "pid": self.fleet.workers[worker].pid}

    def _thaw(self, number: int, frozen: list[psutil.Process], held: tuple[str, int] | None) -> None:
        superseded = held is not None and self.fleet.is_over(*held)
        self.fleet.thaw(frozen)
        self.fleet.history.add("thawed", worker=number, held=held, superseded=superseded)

    def _away(self, name: str, stop: Callable[[], None], seconds: float) -> Told:
        server = {"postgres": self.fleet.postgres, "valkey": self.fleet.valkey}[name]
        if server.is_running:
            self.fleet.keep_down(name)
            stop()
            self.later(seconds, lambda: self.fleet.let_up(name))
        return {"seconds": seconds}


Fault = Callable[[Chaos, int, float], Told]

#: How often each comes, and what it does.
FAULTS: dict[str, tuple[int, Fault]] = {
    "kill_trainer": (12, Chaos.kill_trainer),
    "kill_zygote": (4, Chaos.kill_zygote),
    "kill_supervisor": (5, Chaos.kill_supervisor),
    "kill_worker": (6, Chaos.kill_worker),
    "stop_worker": (6, Chaos.stop_worker),
    "kill_api": (5, Chaos.kill_api),
    "freeze_worker": (10, Chaos.freeze_worker),
    "freeze_trainer": (2, Chaos.freeze_trainer),
    "kill_everything": (1, Chaos.kill_everything),
    "kill_broker": (3, Chaos.kill_broker),
    "restart_database": (4, Chaos.restart_database),
    "flush_broker": (3, Chaos.flush_broker),
    "ring_wildly": (3, Chaos.ring_wildly),
    "partition_database": (8, Chaos.partition_database),
    "cut_database": (5, Chaos.cut_database),
    "lose_reply": (8, Chaos.lose_reply),
    "partition_broker": (3, Chaos.partition_broker),
    "corrupt_checkpoint": (4, Chaos.corrupt_checkpoint),
    "delete_checkpoint": (3, Chaos.delete_checkpoint),
    "fill_store": (4, Chaos.fill_store),
    "change_mind": (6, Chaos.change_mind),
}
#: Those that end a process that trains, or one that it cannot train without.
_KILLS = ("kill_trainer", "kill_zygote", "kill_supervisor", "kill_worker")


def choose(words: Iterable[str]) -> dict[str, int]:
    """The weights of what is named: single faults, ``kill``, ``all``. Raises ValueError."""
    chosen = []
    for word in words:
        if word not in {"all", "kill", *FAULTS}:
            raise ValueError(f"{word!r} is none of all, kill, {', '.join(FAULTS)}")
        chosen += {"all": list(FAULTS), "kill": list(_KILLS)}.get(word, [word])
    return {name: FAULTS[name][0] for name in FAULTS if name in chosen}
