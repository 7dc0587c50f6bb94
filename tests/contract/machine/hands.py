"""What every rule has in its hands: the database, the store of files, and connections that can be cut."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import delete, event

from models.database import Database
from models.job_store import Fence
from models.tables import metadata
from tests.contract.machine.model import Holder, ModelJob
from tests.contract.world import World

T = TypeVar("T")

#: Which of several is taken; the rule takes it modulo how many there are.
PICKS = st.integers(0, 11)


class Cut(Exception):
    """The connection broke here."""


class Tripwire:
    """Breaks the connection at a statement or commit that is told by its number from now."""

    def __init__(self, db: Database) -> None:
        self._left: int | None = None
        event.listen(db.engine, "before_cursor_execute", self._statement)
        event.listen(db.engine, "commit", self._point)
        self._db = db

    def remove(self) -> None:
        event.remove(self._db.engine, "before_cursor_execute", self._statement)
        event.remove(self._db.engine, "commit", self._point)

    @contextlib.contextmanager
    def at(self, point: int) -> Iterator[None]:
        self._left = point
        try:
            yield
        finally:
            self._left = None

    def _statement(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            self._point(connection)

    def _point(self, _: Any) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            raise Cut


@dataclass(frozen=True)
class Fate:
    """What befalls a write on its way: the connection breaks within it, or its reply is lost."""

    cut_at: int | None = None
    reply_lost: bool = False


FATES = st.one_of(
    st.just(Fate()),
    st.just(Fate()),
    st.builds(Fate, cut_at=st.integers(1, 9)),
    st.just(Fate(reply_lost=True)),
)


@dataclass
class MemoryStore:
    """The names of files that are there, as far as :mod:`worker.sweep` asks."""

    files: set[str] = field(default_factory=set)

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.files if key.startswith(f"{prefix}/")))

    def delete(self, key: str) -> None:
        self.files.discard(key)


class Hands(RuleBasedStateMachine):
    """A database that is empty at the start of every history."""

    db: ClassVar[Database]
    tripwire: ClassVar[Tripwire]

    def __init__(self) -> None:
        super().__init__()
        with self.db.writing() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(delete(table))
        self.world = World(self.db)
        self.store = MemoryStore()
        self.jobs: list[ModelJob] = []
        self.by_key: dict[tuple[str, str], ModelJob] = {}
        self.holders: dict[str, Holder] = {}  #: by job; a running job without one has a crashed worker
        self.stale: list[Fence] = []
        self.let_go: list[str] = []  #: pruned paths that their holder has not unlinked yet
        self.frozen_sweeps: list[Callable[[], object]] = []

    def write(self, fate: Fate, act: Callable[[], T], *, repeatable: bool) -> T:
        """Let the fate befall it; half a transaction, or a second effect, is an error.

        A write that was cut is done again, as its worker would.
        """
        if fate.cut_at is not None:
            before = self.world.dump()
            try:
                with self.tripwire.at(fate.cut_at):
                    return act()  # it had fewer statements than that
            except Cut:
                assert self.world.dump() == before, "half of it was done"
        answer = act()
        if fate.reply_lost and repeatable:
            before = self.world.dump()
            act()
            assert self.world.dump() == before, "done a second time"
        return answer

    def gone(self, fence: Fence) -> None:
        """This attempt is over, and whoever still holds its fence is a zombie."""
        self.holders.pop(fence.job_id, None)
        self.stale.append(fence)

    def holding(self, wanted: Callable[[Holder], bool] = lambda holder: True) -> list[Holder]:
        return [holder for holder in self.holders.values() if wanted(holder)]


def one_of(candidates: list[T], pick: int) -> T:
    return candidates[pick % len(candidates)]
