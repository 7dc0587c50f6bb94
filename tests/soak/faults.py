"""The faults of a soak: each is begun in a moment and, where it lasts, ended by a timer."""

import contextlib
import heapq
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from models.job_state import JobStatus
from models.queue import TASK_NAME, celery_app, queue_name
from models.tables import checkpoints, jobs
from tests.servers.proxy import Proxy
from tests.soak.client import Client
from tests.soak.fleet import LEASE_SECONDS, NUM_APIS, NUM_WORKERS, Fleet
from tests.stack import kill_tree, signal_all

Told = dict[str, Any]


class Chaos:
    """One fault after another; the seed alone decides which, where, and for how long."""

    def __init__(self, fleet: Fleet, client: Client, seed: int) -> None:
        self.fleet = fleet
        self.client = client
        self.random = random.Random(seed)
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._num_timers = 0
        self.num_faults = 0

    def strike(self) -> None:
        """The next fault of the schedule."""
        [name] = self.random.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])
        # Drawn here, whatever the fault makes of it, so that the schedule stays the same.
        target, share = self.random.randrange(1_000_000), self.random.random()
        told = FAULTS[name][1](self, target, share)
        self.fleet.history.add("fault", name=name, **told)
        self.num_faults += 1

    def tick(self) -> None:
        """End what has lasted long enough."""
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def end(self) -> None:
        self._timers.clear()
        self.fleet.heal()

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
        number = target % NUM_WORKERS
        kill_tree(self.fleet.workers[number].pid)
        return {"worker": number}

    def kill_api(self, target: int, share: float) -> Told:
        number = target % NUM_APIS
        kill_tree(self.fleet.apis[number].pid)
        return {"api": number}

    def freeze_worker(self, target: int, share: float) -> Told:
        """Past its lease, mostly; then it goes on where it was."""
        number, seconds = target % NUM_WORKERS, LEASE_SECONDS * (0.5 + 1.5 * share)
        frozen = self.fleet.freeze(number)
        self.later(seconds, lambda: self.fleet.thaw(frozen))
        return {"worker": number, "seconds": seconds}

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
        """The newest of a job that has epochs to go: it must never be needed for the result."""
        newest = self.fleet.rows(
            select(checkpoints.c.path, checkpoints.c.size_bytes)
            .join(jobs, jobs.c.id == checkpoints.c.job_id)
            .where(
                jobs.c.status.in_([JobStatus.RUNNING, JobStatus.QUEUED]),
                checkpoints.c.status == "committed",
                checkpoints.c.step == jobs.c.committed_step,
                checkpoints.c.epoch < jobs.c.epochs,
                jobs.c.epochs_done < jobs.c.epochs,
            )
        )
        if not newest:
            return {"nothing": True}
        victim = newest[target % len(newest)]
        file = self.fleet.home / "storage" / victim.path
        with contextlib.suppress(FileNotFoundError), file.open("r+b") as stream:
            at = int(share * (victim.size_bytes - 1))
            stream.seek(at)
            [byte] = stream.read(1)
            stream.seek(at)
            stream.write(bytes([byte ^ 0xFF]))
            stream.flush()
            os.fsync(stream.fileno())
        return {"path": victim.path, "at": at}

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

    def _kill_part(self, part: str, target: int) -> Told:
        """Of the first worker from the drawn one on that has such a part."""
        for offset in range(NUM_WORKERS):
            number = (target + offset) % NUM_WORKERS
            process = self.fleet.find(number, part)
            if process is not None:
                signal_all([process], signal.SIGKILL)
                return {"worker": number, "pid": process.pid}
        return {"nothing": True}

    def _signal(self, target: int, number: signal.Signals) -> Told:
        worker = self.fleet.workers[target % NUM_WORKERS]
        worker.send_signal(number)
        return {"worker": target % NUM_WORKERS, "pid": worker.pid}

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
    "freeze_worker": (8, Chaos.freeze_worker),
    "kill_everything": (1, Chaos.kill_everything),
    "kill_broker": (3, Chaos.kill_broker),
    "restart_database": (4, Chaos.restart_database),
    "flush_broker": (3, Chaos.flush_broker),
    "ring_wildly": (3, Chaos.ring_wildly),
    "partition_database": (8, Chaos.partition_database),
    "cut_database": (5, Chaos.cut_database),
    "lose_reply": (8, Chaos.lose_reply),
    "partition_broker": (3, Chaos.partition_broker),
    "corrupt_checkpoint": (5, Chaos.corrupt_checkpoint),
    "change_mind": (5, Chaos.change_mind),
}
