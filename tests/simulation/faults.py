"""What may happen at any operation; how much of it, and where, the seed decides."""

import errno
from collections.abc import Callable

from tests.simulation.disk import BYTE_SECONDS
from tests.simulation.fleet import Fleet, Worker
from tests.simulation.kernel import Actor, Process, kernel
from tests.simulation.world import world

#: Short, well within a lease; past it; and past every patience.
_FREEZES = (0.5, 3.0, 7.0, 12.0)
_AWAY = (0.5, 2.0, 5.0, 9.0)
#: Where a worker that is held up may come back as a zombie.
_WRITES = (
    "commit_checkpoint",
    "record_metrics",
    "finish",
    "prepared",
    "first_step",
    "restart_attempt",
    "release",
)


class Faults:
    """Strikes while someone is at an operation, a few times a schedule."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._random = kernel().random
        self._left = self._random.choice([0, 2, 3, 4, 5, 6, 8])
        self._countdown = self._random.randint(1, 60)
        self._waylaid = ""  #: the next worker in this function of the job store is frozen or killed there
        self.clock_was_set_back = False
        kinds: list[tuple[int, Callable[[Process], None]]] = [
            (5, self._kill_trainer), (4, self._kill_here), (3, self._kill_worker), (2, self._lose_machine),
            (2, self._freeze_here), (1, self._freeze_worker), (2, self._hang_trainer), (2, self._terminate),
            (16, self._ambush),
            (2, self._database_away), (2, self._cut_off), (3, self._lose_reply),
            (2, self._refuse_once), (1, self._refuse_for_a_while), (1, self._slow_disk),
            (2, self._cut_power), (4, self._tamper), (1, self._kill_api),
            (1, self._suspend), (2, self._set_clock),
        ]  # fmt: skip
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [strike for _, strike in kinds]

    def strike(self, actor: Actor, what: str) -> None:
        """Called at every operation. Nothing on this machine is spared but the laws of nature."""
        if self._waylaid and actor.call and actor.call[0] == self._waylaid and what == "db.write":
            self._spring(actor.process)
            return
        if not self._left:
            return
        self._countdown -= 1
        if self._countdown > 0:
            return
        self._left -= 1
        # Often soon again: what happens during a recovery is where surprises are.
        self._countdown = self._random.choice([self._random.randint(1, 15), self._random.randint(1, 70)])
        [act] = self._random.choices(self._kinds, self._weights)
        kernel().note("FAULT", act.__name__.strip("_"))
        world().counts["faults"] += 1
        world().counts[act.__name__.strip("_")] += 1
        act(actor.process)

    def cease(self) -> None:
        """No more of it, and what was frozen or away is back."""
        kernel().strike = None
        world().away_until, world().loses_reply = 0.0, False
        world().cut_off.clear()
        world().disk.refusing = world().disk.refuses_once = None
        world().disk.byte_seconds = BYTE_SECONDS

    # -- Processes -------------------------------------------------------------------------------

    def _workers(self) -> list[Worker]:
        return [w for w in self._fleet.workers if w.process is not None and not w.process.is_dead]

    def _trainers(self) -> list[Process]:
        return [trainer for worker in self._fleet.workers for trainer in worker.trainers()]

    def _kill_trainer(self, here: Process) -> None:
        for trainer in self._trainers()[:1]:
            world().counts["kills"] += 1
            kernel().kill(trainer)

    def _kill_here(self, here: Process) -> None:
        """Whoever is at the operation, in the middle of it."""
        if here is self._fleet.api:
            self._kill_api(here)
        elif here is not kernel().nature:
            world().counts["kills"] += 1
            kernel().kill(here)

    def _kill_worker(self, here: Process) -> None:
        for worker in self._random.sample(self._workers(), min(1, len(self._workers()))):
            world().counts["kills"] += 1
            kernel().kill(worker.process)  # type: ignore[arg-type]

    def _lose_machine(self, here: Process) -> None:
        """Supervisor and trainer at one instant."""
        for worker in self._random.sample(self._workers(), min(1, len(self._workers()))):
            world().counts["kills"] += 1
            for process in [*worker.trainers(), worker.process]:
                kernel().kill(process)  # type: ignore[arg-type]

    def _kill_api(self, here: Process) -> None:
        kernel().kill(self._fleet.api)
        kernel().later(self._random.uniform(0.2, 3.0), self._fleet.start_api)

    def _freeze(self, processes: list[Process]) -> None:
        seconds = self._random.choice(_FREEZES)
        for process in processes:
            kernel().freeze(process)
            kernel().later(seconds, lambda one=process: kernel().thaw(one))

    def _ambush(self, here: Process) -> None:
        self._waylaid = self._random.choice(_WRITES)

    def _spring(self, here: Process) -> None:
        """Right before a write: frozen, most often until somebody else has the job, or killed for good."""
        kernel().note("FAULT", f"ambush in {self._waylaid}")
        self._waylaid = ""
        if self._random.random() < 0.2:
            world().counts["kills"] += 1
            kernel().kill(here)
            return
        world().counts["zombies"] += 1
        kernel().freeze(here)
        kernel().later(self._random.choice(_FREEZES[1:]) + 5.0, lambda: kernel().thaw(here))

    def _freeze_here(self, here: Process) -> None:
        if here is not kernel().nature:
            self._freeze([here])

    def _freeze_worker(self, here: Process) -> None:
        for worker in self._random.sample(self._workers(), min(1, len(self._workers()))):
            self._freeze([worker.process, *worker.trainers()])  # type: ignore[list-item]

    def _hang_trainer(self, here: Process) -> None:
        """Alive, and without any progress ever again: it is for its supervisor to see that."""
        for trainer in self._trainers()[:1]:
            kernel().freeze(trainer)

    def _terminate(self, here: Process) -> None:
        for worker in self._random.sample(self._workers(), min(1, len(self._workers()))):
            worker.terminate()

    # -- Database, store and clocks --------------------------------------------------------------

    def _database_away(self, here: Process) -> None:
        world().away_until = kernel().now + self._random.choice(_AWAY)

    def _cut_off(self, here: Process) -> None:
        world().cut_off[here.name] = kernel().now + self._random.choice(_AWAY)

    def _lose_reply(self, here: Process) -> None:
        world().loses_reply = True

    def _refuse_once(self, here: Process) -> None:
        world().disk.refuses_once = self._random.choice([errno.ENOSPC, errno.EIO])

    def _refuse_for_a_while(self, here: Process) -> None:
        world().disk.refusing = self._random.choice([errno.ENOSPC, errno.EIO])
        kernel().later(self._random.uniform(1.0, 8.0), lambda: setattr(world().disk, "refusing", None))

    def _slow_disk(self, here: Process) -> None:
        world().disk.byte_seconds = 4 * BYTE_SECONDS
        kernel().later(6.0, lambda: setattr(world().disk, "byte_seconds", BYTE_SECONDS))

    def _cut_power(self, here: Process) -> None:
        """Everything stops at once; the machine comes back under another boot id, its boot clock at zero."""
        world().counts["kills"] += 1
        workers = self._fleet.workers
        for process in list(kernel().processes.values()):
            if process is not kernel().nature:
                process.on_death.clear()
                kernel().kill(process)
        world().disk.cut_power()
        world().oracles.expect_recorded_files_survived()
        kernel().boots += 1
        kernel().boot_offset = kernel().monotonic_offset = 10.0 - kernel().now
        for start in [self._fleet.start_api, *(worker.start for worker in workers)]:
            kernel().later(self._random.uniform(0.5, 4.0), start)

    def _tamper(self, here: Process) -> None:
        paths = sorted(world().oracles.recorded())
        if paths:
            world().disk.tamper(self._random.choice([paths[-1], self._random.choice(paths)]))
            if self._random.random() < 0.7:  # so that somebody reads it
                self._kill_trainer(here)

    def _suspend(self, here: Process) -> None:
        """The machine sleeps: nothing runs, and only the boot clock and the wall clock go on."""
        seconds = self._random.choice([2.0, 30.0])
        kernel().boot_offset += seconds
        kernel().wall_offset += seconds

    def _set_clock(self, here: Process) -> None:
        seconds = self._random.choice([-3600.0, -5.0, 5.0, 3600.0])
        self.clock_was_set_back |= seconds < 0
        kernel().wall_offset += seconds
