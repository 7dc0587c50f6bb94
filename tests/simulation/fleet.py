"""Workers, the API's process and the broker between them."""

from dataclasses import dataclass, field

from models.database import Database
from models.errors import DatabaseUnavailable
from models.host import Owner, ProcessId
from models.reconciler import Reconciler
from tests.simulation.database import ProcessDatabase
from tests.simulation.kernel import Process, kernel
from tests.simulation.world import SETTINGS, world
from worker.messages import Slot
from worker.presence import Presence
from worker.supervisor import Supervisor

SLOT = Slot("cpu", 2, "x86_64-avx2")


@dataclass(eq=False)
class Worker:
    """One worker's place in the fleet: whoever manages it starts a new process when one ends."""

    name: str
    namespace: str
    is_wanted: bool = True
    process: Process | None = None
    supervisor: Supervisor | None = None
    _starts: int = 0

    def start(self) -> None:
        """A process of its own, and all its threads."""
        self._starts += 1
        process = self.process = kernel().new_process(f"{self.name}.{self._starts}", namespace=self.namespace)
        process.on_death.append(lambda: self._died(process))
        kernel().spawn(process, "boot", lambda: self._boot(process))

    def _boot(self, process: Process) -> None:
        """As ``worker.__main__`` does; without beats, which no decision depends on."""
        db = ProcessDatabase(process)
        identity = ProcessId(process.pid, process.started_at)
        owner = Owner(f"wrk_{process.name}", "host", kernel().boot_id, process.namespace, identity)
        supervisor = self.supervisor = Supervisor(db, SETTINGS, owner, SLOT, None)
        presence = Presence(db, SETTINGS, owner, SLOT, supervisor)
        presence._nudged.set()
        kernel().spawn(process, "look", presence._look_for_work)
        Reconciler(db, SETTINGS, on_claimable=presence.nudge).start()

    def hear_bell(self) -> None:
        """A message of the broker; Celery's pool has one thread for it."""
        process, supervisor = self.process, self.supervisor
        if process is None or process.is_dead or supervisor is None:
            return

        def work() -> None:
            try:
                supervisor.work_until_idle()
            except DatabaseUnavailable:
                kernel().note("bell unanswered")

        kernel().spawn(process, "bell", work)

    def terminate(self) -> None:
        """SIGTERM."""
        process, supervisor = self.process, self.supervisor
        if process is None or process.is_dead or supervisor is None:
            return
        kernel().note("SIGTERM", self.name)

        def leave() -> None:
            supervisor.stop()
            supervisor.join(supervisor._settings.stop_seconds + 5.0)
            kernel().kill(process, 0)

        kernel().spawn(process, "leave", leave)

    def trainers(self) -> list[Process]:
        return [p for p in kernel().processes.values() if p.parent is self.process and not p.is_dead]

    def _died(self, process: Process) -> None:
        """Its trainers follow within a second, by the parent-death signal or the end of the pipe."""
        for trainer in self.trainers():
            kernel().later(kernel().random.uniform(0.0, 1.0), lambda one=trainer: kernel().kill(one))
        if self.is_wanted:
            kernel().later(kernel().random.uniform(0.2, 6.0), lambda: self._again(process))

    def _again(self, process: Process) -> None:
        if self.process is process:  # a power cut has its own way to start everything again
            self.start()


@dataclass(eq=False)
class Fleet:
    workers: list[Worker]
    db: Database = field(init=False)
    api: Process = field(init=False)

    def start(self) -> None:
        self.start_api()
        for worker in self.workers:
            worker.start()

    def start_api(self) -> None:
        api = self.api = kernel().new_process("api", namespace="pid:[api]")
        self.db = ProcessDatabase(api)
        reconciler = Reconciler(self.db, SETTINGS, on_claimable=self.ring)
        kernel().spawn(api, "boot", reconciler.start)

    def ring(self, device_class: str) -> None:
        """The broker loses bells, repeats them, and delivers them late and out of order."""
        late = kernel().random.uniform(0.0, 2.0)
        if kernel().random.random() < 0.5:
            for worker in self.workers:  # all at once, for one job
                kernel().later(late, worker.hear_bell)
        else:
            for _ in range(kernel().random.choice([0, 0, 1, 2])):
                kernel().later(late, kernel().random.choice(self.workers).hear_bell)
        world().counts["bells"] += 1
