"""One database behind two dialects: SQLite on one host, PostgreSQL for a fleet.

Writers on SQLite begin IMMEDIATE, since a transaction that reads first and writes later fails with
"database is locked" whatever the timeout. Leases are judged by the database's clock on PostgreSQL
and, on SQLite (one host by nature), by the boot-time clock, which no clock change can move.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Float,
    bindparam,
    cast,
    create_engine,
    event,
    exc,
    func,
    literal,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.sql.elements import ColumnElement

from models.columns import Instant
from models.errors import DatabaseUnavailable, SchemaBehind
from models.host import boot_time_clock

#: A frozen process must not hold row locks for longer than this, well below any lease.
IDLE_IN_TRANSACTION_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
SQLITE_BUSY_SECONDS = 10
#: SQLite has one class, and no number, for all that may be wrong with a statement.
_NOT_THERE = re.compile("no such (table|column)|table .+ has no column")


class Database:
    """Short transactions for reading and for writing; errors of the connection are typed once, here."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._writer = _sqlite_engine(parsed, pool_size, begin="BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(parsed, pool_size, begin="BEGIN")
        else:
            self._writer = _postgres_engine(parsed, pool_size)
            # Each statement sees what is committed when it begins, in a transaction or not: BEGIN and COMMIT
            # would buy nothing for two round trips.
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        self.url = parsed.render_as_string(hide_password=True)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction; committed at the end, rolled back on any error. Raises DatabaseUnavailable."""
        with _typed_errors(), self._writer.begin() as transaction:
            yield transaction

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For looking: all at one instant on SQLite, each statement at its own on PostgreSQL.

        Raises DatabaseUnavailable.
        """
        with _typed_errors(), self._reader.begin() as transaction:
            yield transaction

    def now(self) -> ColumnElement[datetime]:
        """The instant of a write, by the database's clock where it has one of its own."""
        if self.is_sqlite:
            return literal(datetime.now(UTC), Instant())
        return func.clock_timestamp(type_=Instant())

    def unix_now(self) -> ColumnElement[float]:
        """Seconds since the epoch, by the same clock as :meth:`now`."""
        if self.is_sqlite:
            return literal(time.time())
        return cast(func.extract("epoch", func.clock_timestamp()), Float)

    def lease_now(self) -> ColumnElement[float]:
        """Seconds on the clock that leases are judged by."""
        if self.is_sqlite:
            return literal(boot_time_clock())
        return cast(func.extract("epoch", func.clock_timestamp()), Float)

    def clock_values(self, *names: str) -> dict[str, Any]:
        """What a statement of :func:`deferred_now` and the like is executed with.

        ``names`` of those that it has, for one that sets columns: it would take the others for columns, too.
        """
        if not self.is_sqlite:
            return {}
        clocks = {"now": datetime.now(UTC), "unix_now": time.time(), "lease_now": boot_time_clock()}
        return {name: clocks[name] for name in names} if names else clocks

    def close(self) -> None:
        """Return every connection."""
        self._writer.dispose()
        self._reader.dispose()

    @property
    def engine(self) -> Engine:
        """The writing engine, for migrations."""
        return self._writer

    def ping(self) -> None:
        """Raises DatabaseUnavailable when the database does not answer."""
        with self.reading() as tx:
            tx.execute(text("SELECT 1"))


def deferred_now(*, is_sqlite: bool) -> ColumnElement[datetime]:
    """:meth:`Database.now` for a statement that is built once and executed often."""
    return bindparam("now", type_=Instant()) if is_sqlite else func.clock_timestamp(type_=Instant())


def deferred_unix_now(*, is_sqlite: bool) -> ColumnElement[float]:
    """:meth:`Database.unix_now` likewise."""
    return (
        bindparam("unix_now", type_=Float())
        if is_sqlite
        else unix_of(func.clock_timestamp(), is_sqlite=False)
    )


def deferred_lease_now(*, is_sqlite: bool) -> ColumnElement[float]:
    """:meth:`Database.lease_now` likewise."""
    return (
        bindparam("lease_now", type_=Float())
        if is_sqlite
        else unix_of(func.clock_timestamp(), is_sqlite=False)
    )


def unix_of(instant: ColumnElement[Any], *, is_sqlite: bool) -> ColumnElement[float]:
    """Seconds since the epoch until a stored instant."""
    return cast(func.strftime("%s", instant) if is_sqlite else func.extract("epoch", instant), Float)


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise (
            SchemaBehind if _NOT_THERE.match(str(getattr(error, "orig", ""))) else DatabaseUnavailable
        ) from error
    except exc.DBAPIError as error:
        # Deadlocks, serialization failures and a server that is shutting down come under other classes.
        state = str(getattr(error.orig, "sqlstate", "") or "")
        if state in {"42P01", "42703"}:  # no such table, no such column
            raise SchemaBehind from error
        if error.connection_invalidated or state[:2] in {"08", "40", "53", "57"} or state == "25P03":
            raise DatabaseUnavailable from error
        raise


def _sqlite_engine(url: URL, pool_size: int, begin: str) -> Engine:
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, connect_args={"timeout": SQLITE_BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres_engine(url: URL, pool_size: int) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    options = (
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_SECONDS}s"
        f" -c lock_timeout={LOCK_TIMEOUT_SECONDS}s -c statement_timeout=30s -c timezone=UTC"
    )
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        connect_args={
            "options": options,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            # A peer that vanished without a word is noticed within seconds, not after hours.
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": "perdure",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, args: Any, options: Any) -> Any:
        # Here, since an installation on SQLite has no driver for PostgreSQL.
        from models.postgres import BoundedConnection  # noqa: PLC0415

        return BoundedConnection.connect(*args, **options)

    @event.listens_for(engine, "checkout")
    def _expect_alive(connection: Any, _record: object, _proxy: object) -> None:
        # In place of `pool_pre_ping`, which asks the server before every transaction.
        if connection.was_ended():
            raise exc.DisconnectionError("the server ended this connection while nobody used it")

    return engine
