"""Virtual time and who runs next: actors take turns, one at a time, in an order that the seed decides.

The code under test blocks deep inside its call stack (a write that is retried, a lease that is waited for),
where a generator could not yield. So each actor has a thread to itself, and a baton goes from one to the
next at every operation on database, disk or pipe: never do two of them run at once.
"""

import heapq
import math
import random
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.carriers import Carrier

#: Far more than any schedule needs: whoever gets here runs in circles.
MAX_EVENTS = 60_000
_MEAN_LATENCY_SECONDS = 0.004


class Killed(BaseException):
    """Unwinds an actor whose process is gone; nothing that it still tries has an effect."""


class Broken(BaseException):
    """Unwinds an actor after a guarantee was seen broken."""


@dataclass(eq=False)
class Process:
    """A process of the simulated machine."""

    name: str
    pid: int
    started_at: float
    namespace: str = "pid:[host]"
    parent: "Process | None" = None
    job_id: str | None = None  #: that a trainer trains
    is_recorded: bool = False  #: a trainer that the database knows by its number
    is_dead: bool = False
    is_frozen: bool = False
    exit_code: int | None = None
    actors: "list[Actor]" = field(default_factory=list)
    held: "list[Actor]" = field(default_factory=list)  #: whose turn came while it was frozen
    on_death: list[Callable[[], object]] = field(default_factory=list)


@dataclass(eq=False)
class Actor:
    """A thread of a simulated process."""

    name: str
    process: Process
    carrier: Carrier = field(init=False)
    turn: int = 0  #: entries in the queue for another turn than this are out of date
    is_done: bool = False
    call: tuple[str, Any] | None = None  #: the function of the job store that it is in, with its fence

    @property
    def is_killed(self) -> bool:
        return self.process.is_dead


@dataclass(eq=False)
class Deed(Actor):
    """Done in an instant, by whoever passes the baton: it needs no thread."""

    act: Callable[[], object] = lambda: None


class Kernel:
    """One schedule."""

    def __init__(self, seed: int, *, is_verbose: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0.0  #: true time, which no clock of the machine shows
        self.boot_offset = 1000.0
        self.monotonic_offset = 1000.0
        self.wall_offset = 1.7e9
        self.boots = 1
        self.num_events = 0
        self.trail: deque[tuple[float, str, str, object]] = deque(maxlen=40)
        self.trace = 0  #: a checksum over all that was noted: equal in every replay
        self.is_verbose = is_verbose
        self.failure: BaseException | None = None
        self.processes: dict[int, Process] = {}
        self.strike: Callable[[Actor, str], object] | None = None  #: may hurt whoever is at an operation
        self._queue: list[tuple[float, float, int, Actor, int]] = []
        self._serial = 0
        self._pid = 100
        self.nature = self.new_process("nature")
        self.main = self.current = Actor("main", self.nature)
        self.main.carrier = Carrier()  # the thread that this is

    # -- Clocks ----------------------------------------------------------------------------------

    def boot_clock(self) -> float:
        return self.now + self.boot_offset

    def monotonic(self) -> float:
        return self.now + self.monotonic_offset

    def wall_clock(self) -> float:
        return self.now + self.wall_offset

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    # -- Processes -------------------------------------------------------------------------------

    def new_process(self, name: str, **more: Any) -> Process:
        self._pid += 1
        process = Process(name, self._pid, round(self.boot_clock(), 2), **more)
        self.processes[process.pid] = process
        return process

    def spawn(self, process: Process, name: str, run: Callable[[], object]) -> Actor:
        """A thread of this process, which begins after a moment."""
        actor = Actor(f"{process.name}/{name}", process)
        actor.carrier = Carrier.of(lambda: self._live(actor, run))
        process.actors.append(actor)
        self._push(actor, self.now + self.latency())
        return actor

    def kill(self, process: Process, exit_code: int = -9) -> None:
        """SIGKILL, seen at once by whoever waits for it."""
        if process.is_dead:
            return
        self.note("killed", f"{process.name} ({exit_code})")
        process.is_dead, process.is_frozen, process.exit_code = True, False, exit_code
        for actor in process.actors:
            if not actor.is_done and actor is not self.current:
                self._push(actor, -1.0)  # before all others: it only unwinds
        for tell in process.on_death:
            tell()

    def freeze(self, process: Process) -> None:
        if not process.is_dead:
            self.note("frozen", process.name)
            process.is_frozen = True

    def thaw(self, process: Process) -> None:
        if process.is_frozen:
            self.note("thawed", process.name)
            process.is_frozen = False
            held, process.held = process.held, []
            for actor in held:
                self._push(actor, self.now)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Something that nature does by itself."""
        self._push(Deed("later", self.nature, act=act), self.now + seconds)

    # -- Turns -----------------------------------------------------------------------------------

    def latency(self) -> float:
        return -math.log(1.0 - self.random.random()) * _MEAN_LATENCY_SECONDS

    def pause(self, what: str, detail: object = "") -> None:
        """At an operation: anybody else may be faster, and anything may happen here."""
        me = self._living()
        self.num_events += 1
        if self.num_events > MAX_EVENTS:
            self.fail(AssertionError(f"no end in sight after {MAX_EVENTS} events"))
        self.note(what, detail)
        if self.strike is not None:
            self.strike(me, what)
            self._living()
        self._rest_until(me, self.now + self.latency())

    def sleep(self, seconds: float) -> None:
        me = self._living()
        self._rest_until(me, self.now + max(0.0, seconds))

    def wake(self, actor: Actor) -> None:
        if not actor.is_done:
            self._push(actor, self.now)

    def _living(self) -> Actor:
        if self.current.is_killed:
            raise Killed
        return self.current

    def _rest_until(self, me: Actor, at: float) -> None:
        process = me.process
        if not (process.is_frozen or process.is_dead) and (not self._queue or self._queue[0][0] > at):
            self.now = max(self.now, at)  # nobody else comes first: no need to pass the baton
            return
        self._push(me, at)
        following = self._next()
        if following is not me:
            self.current = following
            me.carrier.hand_over(following.carrier)
        if me is self.main and self.failure is not None:
            raise self.failure
        if me.is_killed:
            raise Killed

    def _push(self, actor: Actor, at: float) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (at, self.random.random(), self._serial, actor, actor.turn))

    def _next(self) -> Actor:
        while True:
            at, _, _, actor, turn = heapq.heappop(self._queue)
            if actor.is_done or turn != actor.turn:
                continue
            self.now = max(self.now, at)
            if actor.process.is_frozen:
                actor.process.held.append(actor)
                continue
            if isinstance(actor, Deed):
                before, self.current = self.current, actor
                self._run(actor, actor.act)
                self.current = before
                continue
            actor.turn += 1
            return actor

    def _live(self, actor: Actor, run: Callable[[], object]) -> Carrier:
        self._run(actor, run)
        self.current = self._next()
        return self.current.carrier

    def _run(self, actor: Actor, run: Callable[[], object]) -> None:
        try:
            if not actor.is_killed:
                run()
        except (Killed, Broken):
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told with its seed
            self.failure = self.failure or error
            self._push(self.main, -1.0)
        actor.is_done = True

    # -- Ends ------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """A guarantee is broken: the schedule ends here, whoever may catch what is raised."""
        self.failure = self.failure or error
        if self.current is self.main:
            raise self.failure
        self._push(self.main, -1.0)
        raise Broken

    def note(self, what: str, detail: object = "") -> None:
        name = self.current.name
        self.trail.append((self.now, name, what, detail))
        self.trace = zlib.crc32(f"{self.now!r} {name} {what}".encode(), self.trace)
        if self.is_verbose:
            print(in_words(self.trail[-1]))

    def end(self) -> None:
        """Every thread unwinds and is gone. From the main actor."""
        self.strike = None
        self.is_verbose = False
        for process in list(self.processes.values()):
            if process is not self.nature:
                process.on_death.clear()
                self.kill(process)
        # What nature still had in mind does not happen any more.
        self.nature.is_dead = True
        for actor in self.nature.actors:
            if not actor.is_done:
                self._push(actor, -1.0)
        while any(not actor.is_done for process in self.processes.values() for actor in process.actors):
            self._push(self.main, self.now)
            following = self._next()
            if following is not self.main:
                self.current = following
                self.main.carrier.hand_over(following.carrier)


def in_words(event: tuple[float, str, str, object]) -> str:
    return "{:9.3f}  {:24s} {} {}".format(*event)


class Running:
    """The schedule under way: stand-ins for modules have no other way to know it."""

    kernel: Kernel


def kernel() -> Kernel:
    return Running.kernel
