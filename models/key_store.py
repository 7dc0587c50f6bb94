"""Every statement about API keys. Each function is one transaction and raises DatabaseUnavailable."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, insert, or_, select, update

from models.database import Database
from models.errors import NotFound
from models.key_spec import NewKey, Token
from models.tables import api_keys

KeyRow = Row[Any]

#: The instant of a key's last use is kept to this: a write for each request would cost more than requests.
LAST_USED_SECONDS = 60.0


@dataclass(frozen=True)
class Made:
    key: KeyRow
    token: Token  #: nobody can have it again


def create_key(db: Database, new: NewKey, tenant_id: str) -> Made:
    """Store a new key's hash."""
    token = Token.make()
    with db.writing() as tx:
        row = tx.execute(
            insert(api_keys)
            .values(
                id=token.key_id,
                tenant_id=tenant_id,
                name=new.name,
                scope=str(new.scope),
                secret_sha256=token.sha256,
                created_at=db.now(),
            )
            .returning(*api_keys.c)
        ).one()
    return Made(row, token)


def list_keys(
    db: Database, *, tenant_id: str | None = None, after: str | None = None, limit: int = 20
) -> list[KeyRow]:
    """Newest first, the revoked ones too; of one tenant, or of all."""
    wanted = select(api_keys)
    if tenant_id is not None:
        wanted = wanted.where(api_keys.c.tenant_id == tenant_id)
    if after is not None:
        wanted = wanted.where(api_keys.c.id < after)
    with db.reading() as tx:
        return list(tx.execute(wanted.order_by(api_keys.c.id.desc()).limit(limit)))


def revoke_key(db: Database, key_id: str, *, tenant_id: str | None = None) -> KeyRow:
    """It opens nothing from now on; a revoked key stays as it is. Raises NotFound."""
    mine = api_keys.c.id == key_id
    if tenant_id is not None:
        mine &= api_keys.c.tenant_id == tenant_id
    with db.writing() as tx:
        tx.execute(update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=db.now()))
        row = tx.execute(select(api_keys).where(mine)).one_or_none()
    if row is None:
        raise NotFound("There is no key with that id; `perdure keys list` shows those that exist.")
    return row


def find_key(db: Database, key_id: str) -> KeyRow | None:
    """A key that may be used; its secret is yet to be compared."""
    with db.reading() as tx:
        wanted = select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        return tx.execute(wanted).one_or_none()


def any_key(db: Database) -> bool:
    """Whether a key was ever made, be it revoked by now."""
    with db.reading() as tx:
        return tx.execute(select(api_keys.c.id).limit(1)).one_or_none() is not None


def key_used(db: Database, key_id: str) -> None:
    """Note that it was used now, unless some process did within the last minute."""
    with db.writing() as tx:
        now = tx.execute(select(db.now())).scalar_one()
        long_ago = now - timedelta(seconds=LAST_USED_SECONDS)
        tx.execute(
            update(api_keys)
            .where(
                api_keys.c.id == key_id,
                or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < long_ago),
            )
            .values(last_used_at=now)
        )
