"""Rows that are written again when steps are done again: one for each key, whatever crashed."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database, deferred_now


def insert_or_replace(
    tx: Connection, db: Database, table: Table, keys: tuple[str, ...], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows of equal columns, ``recorded_at`` now, replacing those that have the same key."""
    clock = db.clock_values("now")
    statement = _inserting_or_replacing(db.is_sqlite, table, keys, tuple(rows[0]))
    tx.execute(statement, [{**row, **clock} for row in rows]).close()


@cache
def _inserting_or_replacing(
    is_sqlite: bool, table: Table, keys: tuple[str, ...], columns: tuple[str, ...]
) -> Any:
    dialect = sqlite if is_sqlite else postgresql
    statement = dialect.insert(table).values(recorded_at=deferred_now(is_sqlite=is_sqlite))
    changed = {name: statement.excluded[name] for name in (*columns, "recorded_at") if name not in keys}
    # With `returning` SQLAlchemy sends many rows in one statement, whatever their number.
    return statement.on_conflict_do_update(index_elements=keys, set_=changed).returning(table.c.job_id)
