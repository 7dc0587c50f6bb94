"""Everything that the actors of one schedule share."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from models.database import Database
from models.settings import Settings
from models.storage import LocalStorage
from tests.simulation.disk import Disk, SimPath
from tests.simulation.kernel import Kernel, Running

SETTINGS = Settings(
    lease_seconds=6.0,
    heartbeat_seconds=2.0,
    reconcile_seconds=4.0,
    stall_seconds=8.0,
    store_patience_seconds=20.0,
)


@dataclass
class World:
    """One schedule's machine, store and database; ``shared`` is emptied for each."""

    kernel: Kernel
    shared: Database
    disk: Disk
    oracles: Any
    away_until: float = 0.0  #: the database, for everybody
    cut_off: dict[str, float] = field(default_factory=dict)  #: by the name of a process
    loses_reply: bool = False  #: of the next COMMIT
    counts: Counter[str] = field(default_factory=Counter)

    def storage(self) -> LocalStorage:
        """The real store over the simulated file system."""
        return LocalStorage(SimPath(self.disk, "/store"))  # type: ignore[arg-type]

    def next_id(self, kind: str) -> str:
        """Ids in the order in which they were made, equal in every replay."""
        self.counts["ids"] += 1
        return f"{kind}_{self.counts['ids']:08x}"


def new_world(seed: int, shared: Database, oracles: Any, *, is_verbose: bool = False) -> World:
    """Becomes the one that runs."""
    kernel = Kernel(seed, is_verbose=is_verbose)
    kernel.disk = Disk(kernel)  # type: ignore[attr-defined]
    kernel.world = world = World(kernel, shared, kernel.disk, oracles)  # type: ignore[attr-defined]
    Running.kernel = kernel
    return world


def world() -> World:
    found: World = Running.kernel.world  # type: ignore[attr-defined]
    return found
