"""One schedule from its seed: jobs, faults, and what must be true after them."""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import delete

from models import migrate
from models.database import Database
from models.job_state import FINISHED, JobStatus
from models.tables import metadata
from tests.simulation.faults import Faults
from tests.simulation.fleet import Fleet, Worker
from tests.simulation.kernel import Actor, in_words, kernel
from tests.simulation.oracles import Oracles
from tests.simulation.patches import patched
from tests.simulation.people import steer, submit_and_steer
from tests.simulation.world import World, new_world, world

#: Faults may fall in this time; afterwards every job has so long to finish.
STORM_SECONDS = 40.0
CALM_SECONDS = 240.0


class GuaranteeBroken(AssertionError):
    """Says which seed replays it, and what happened last."""


class Simulator:
    """Schedules one after another on one database, which is emptied for each."""

    def __init__(self) -> None:
        # In memory, and shared by the engines for reading and for writing, of which one at a time is in use.
        self.db = Database("sqlite:///file::memory:?cache=shared&uri=true", pool_size=1)
        migrate.upgrade(self.db)
        self._oracles = Oracles("file::memory:?cache=shared")
        self._trace = 0

    def close(self) -> None:
        self._oracles.close()
        self.db.close()

    def run(self, seed: int, *, is_verbose: bool = False) -> Counter[str]:
        """What happened, in numbers. Raises GuaranteeBroken."""
        with self.db.writing() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(delete(table))
        self._oracles.begin()
        scene = new_world(seed, self.db, self._oracles, is_verbose=is_verbose)
        scene.disk.on_unlink = self._oracles.on_unlink
        try:
            _play(scene)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = "\n".join(map(in_words, scene.kernel.trail))
            raise GuaranteeBroken(
                f"seed {seed}: {type(error).__name__}: {error}\nThe last events:\n{last}\n"
                f"Replay: python -m tests.simulation {seed}"
            ) from error
        finally:
            scene.kernel.end()
            self._trace = scene.kernel.trace
        scene.counts["schedules"] += 1
        scene.counts["events"] += scene.kernel.num_events
        scene.counts["attempts"] += sum(row["attempt"] for row in self._oracles.jobs.values())
        for row in self._oracles.jobs.values():
            scene.counts[f"ended {row['status']}"] += 1
        return scene.counts

    def trace_of(self, seed: int) -> int:
        """A checksum over everything that happened, also where a guarantee was broken in the end."""
        with contextlib.suppress(GuaranteeBroken):
            self.run(seed)
        return self._trace


def _play(scene: World) -> None:
    random = kernel().random
    alone = random.random() < 0.5  # each worker in a container of its own, so that only leases tell deaths
    workers = [
        Worker(f"worker-{number}", f"pid:[{number}]" if alone else "pid:[host]")
        for number in range(random.choice([1, 2, 2, 3]))
    ]
    fleet = Fleet(workers)
    faults = Faults(fleet)
    fleet.start()
    num_jobs = random.choice([1, 1, 1, 2])
    users = [
        kernel().spawn(kernel().nature, f"user-{n}", lambda n=n: submit_and_steer(fleet, n))
        for n in range(num_jobs)
    ]
    kernel().strike = faults.strike
    while kernel().now < STORM_SECONDS and not (_at_rest() and all(user.is_done for user in users)):
        kernel().sleep(2.0)
    faults.cease()
    _calm(fleet, users)
    scene.oracles.at_the_end(scene.shared, clock_was_set_back=faults.clock_was_set_back)
    assert len(scene.oracles.jobs) == num_jobs, "I9: one job for each key"


def _calm(fleet: Fleet, users: list[Actor]) -> None:
    """Faults are over: whatever is wanted comes to its end (I4)."""
    for process in kernel().processes.values():
        if process.parent is None:  # a trainer that hangs is for its supervisor to notice
            kernel().thaw(process)
    until = kernel().now + CALM_SECONDS
    wanted_again = kernel().random.random() < 0.7
    while kernel().now < until:
        if all(user.is_done for user in users) and _at_rest():
            again = [row for row in world().oracles.jobs.values() if row["status"] != JobStatus.SUCCEEDED]
            if not (again and wanted_again):
                return
            wanted_again = False
            for row in again:
                steer(fleet, row["id"], "resume" if row["status"] == JobStatus.PAUSED else "retry")
        kernel().sleep(1.0)
    states = [(row["id"], row["status"], row["step"]) for row in world().oracles.jobs.values()]
    raise AssertionError(f"I4: {CALM_SECONDS:g} s after the last fault there still is work: {states}")


def _at_rest() -> bool:
    rows = world().oracles.jobs.values()
    return bool(rows) and all(row["status"] in {*FINISHED, JobStatus.PAUSED} for row in rows)


@contextmanager
def simulator() -> Iterator[Simulator]:
    """Ready to run; real modules are as they were afterwards."""
    ready = Simulator()
    gc.collect()
    gc.freeze()  # what torch and SQLAlchemy brought along need not be looked at again and again
    try:
        with patched():
            yield ready
    finally:
        gc.unfreeze()
        ready.close()
