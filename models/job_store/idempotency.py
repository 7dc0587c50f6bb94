"""One answer for one Idempotency-Key, however often the request arrives."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.errors import IdempotencyInFlight, IdempotencyMismatch
from models.tables import idempotency_keys as keys

#: A process that died while it answered gives its key back after this long.
IN_FLIGHT_SECONDS = 60.0
#: Answers are kept for a day.
KEEP_SECONDS = 86_400.0


@dataclass(frozen=True)
class Replay:
    """The answer that was given before."""

    status_code: int
    body: Any
    headers: dict[str, str]


def begin_request(db: Database, tenant_id: str, key: str, request_hash: str) -> Replay | None:
    """None when the request is ours to answer, else the answer that it had.

    Raises IdempotencyMismatch, IdempotencyInFlight.
    """
    mine = (keys.c.tenant_id == tenant_id) & (keys.c.key == key)
    with db.writing() as tx:
        # Most keys are new, and cost this statement alone. Of several requests at once one has its way, and
        # the others wait for it here; the row is theirs to read then, since it stays locked.
        if tx.execute(_new_or_forgotten(db, tenant_id, key, request_hash)).one_or_none() is not None:
            return None
        row = tx.execute(select(keys).where(mine)).one()
        if row.request_hash != request_hash:
            raise IdempotencyMismatch
        if row.status_code is not None:
            return Replay(row.status_code, row.body, row.headers or {})
        taken_over = tx.execute(
            update(keys)
            .where(mine, keys.c.claimed_at < db.unix_now() - IN_FLIGHT_SECONDS)
            .values(claimed_at=db.unix_now())
        )
        if taken_over.rowcount == 0:
            raise IdempotencyInFlight
        return None


def _new_or_forgotten(db: Database, tenant_id: str, key: str, request_hash: str) -> Any:
    """Takes a key that nobody used within KEEP_SECONDS; returns no row for another."""
    dialect = sqlite if db.is_sqlite else postgresql
    row = {"request_hash": request_hash, "claimed_at": db.unix_now(), "created_at": db.now()}
    no_answer: dict[str, Any] = {"status_code": None, "body": None, "headers": None}
    return (
        dialect.insert(keys)
        .values(tenant_id=tenant_id, key=key, **row)
        .on_conflict_do_update(
            index_elements=[keys.c.tenant_id, keys.c.key],
            set_=row | no_answer,
            where=keys.c.claimed_at < db.unix_now() - KEEP_SECONDS,
        )
        .returning(keys.c.key)
    )


def complete_request(
    db: Database, tenant_id: str, key: str, status_code: int, body: Any, headers: dict[str, str]
) -> None:
    """Keep the answer for whoever asks again."""
    with db.writing() as tx:
        tx.execute(
            update(keys)
            .where(keys.c.tenant_id == tenant_id, keys.c.key == key)
            .values(status_code=status_code, body=body, headers=headers)
        )


def forget_request(db: Database, tenant_id: str, key: str) -> None:
    """The request had no effect (it failed): the key may be used again."""
    with db.writing() as tx:
        tx.execute(
            delete(keys).where(keys.c.tenant_id == tenant_id, keys.c.key == key, keys.c.status_code.is_(None))
        )
