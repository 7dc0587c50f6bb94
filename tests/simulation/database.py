"""The real database, reached by processes that may lose their way to it, or its answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from models.database import Database
from models.errors import DatabaseUnavailable
from tests.simulation import oracles
from tests.simulation.kernel import Process, kernel
from tests.simulation.world import world


class ProcessDatabase(Database):
    """One process's view; a transaction is one instant, and anything may happen before each."""

    def __init__(self, process: Process) -> None:
        shared = world().shared
        self.is_sqlite, self.url = shared.is_sqlite, shared.url
        self._writer, self._reader = shared._writer, shared._reader
        self._process = process

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        self._arrive("db.write")
        with super().writing() as transaction:
            yield transaction
        oracles.after_write()
        if world().loses_reply:
            world().loses_reply = False
            kernel().note("reply lost")
            raise DatabaseUnavailable

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self._arrive("db.read")
        with super().reading() as transaction:
            yield transaction

    def _arrive(self, what: str) -> None:
        kernel().pause(what, kernel().current.call)
        world().counts["transactions"] += 1
        if kernel().now < max(world().away_until, world().cut_off.get(self._process.name, 0.0)):
            kernel().sleep(kernel().random.uniform(0.05, 1.0))  # until the connection is given up
            kernel().note("database away")
            raise DatabaseUnavailable
