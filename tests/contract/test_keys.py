"""API keys: made, found, used and revoked, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from models import key_store
from models.database import Database
from models.errors import NotFound
from models.key_spec import NewKey, Scope, Token
from models.key_store import Made
from models.tables import api_keys
from tests.contract.world import at_once


def make(db: Database, tenant: str = "default", **parts: Any) -> Made:
    return key_store.create_key(db, NewKey(**({"name": "ci"} | parts)), tenant)


def test_a_key_is_stored_as_a_hash(db: Database) -> None:
    made = make(db, "acme", name="ci", scopes=[Scope.ADMIN, Scope.READ])
    key = key_store.find_key(db, made.key.id)
    assert key is not None
    assert (key.tenant_id, key.name, key.scope) == ("acme", "ci", "admin")
    assert key.last_used_at is None and key.revoked_at is None
    assert abs(datetime.now(UTC) - key.created_at) < timedelta(minutes=5)
    assert key.secret_sha256 == made.token.sha256
    assert made.token.secret not in repr(tuple(key)), "nothing stored leads back to the secret"

    token = Token.parse(made.token.text)
    assert token is not None and token.key_id == key.id
    assert token.is_that_of(key.secret_sha256)
    assert not Token.make().is_that_of(key.secret_sha256) and not token.is_that_of(None)


def test_keys_are_listed_newest_first(db: Database) -> None:
    made = [make(db, tenant).key.id for tenant in ("a", "b", "a", "a")]
    assert [key.id for key in key_store.list_keys(db)] == made[::-1]
    assert [key.id for key in key_store.list_keys(db, tenant_id="a")] == [made[3], made[2], made[0]]
    assert [key.id for key in key_store.list_keys(db, tenant_id="a", after=made[3], limit=1)] == [made[2]]
    assert key_store.list_keys(db, tenant_id="c") == []


def test_a_revoked_key_is_found_no_more_and_stays_in_the_list(db: Database) -> None:
    key_id = make(db, "a").key.id
    with pytest.raises(NotFound):
        key_store.revoke_key(db, key_id, tenant_id="b")
    assert key_store.find_key(db, key_id) is not None
    first = key_store.revoke_key(db, key_id, tenant_id="a").revoked_at
    assert first is not None
    assert key_store.find_key(db, key_id) is None
    assert key_store.revoke_key(db, key_id).revoked_at == first, "it was revoked then, and not now"
    assert [key.revoked_at for key in key_store.list_keys(db)] == [first]
    with pytest.raises(NotFound):
        key_store.revoke_key(db, "key_nobodys")


def test_whether_there_ever_was_a_key(db: Database) -> None:
    assert not key_store.any_key(db)
    key_id = make(db).key.id
    assert key_store.any_key(db)
    key_store.revoke_key(db, key_id)
    assert key_store.any_key(db), "the door that was shut is not opened by the loss of the last key"


def last_used(db: Database) -> datetime | None:
    with db.reading() as tx:
        at: datetime | None = tx.execute(select(api_keys.c.last_used_at)).scalar_one()
        return at


def test_its_last_use_is_written_once_a_minute(db: Database) -> None:
    key_id = make(db).key.id
    at_once(*[lambda: key_store.key_used(db, key_id)] * 5)
    first = last_used(db)
    assert first is not None and abs(datetime.now(UTC) - first) < timedelta(minutes=5)
    key_store.key_used(db, key_id)
    assert last_used(db) == first
    with db.writing() as tx:
        tx.execute(update(api_keys).values(last_used_at=first - timedelta(seconds=61)))
    key_store.key_used(db, key_id)
    used = last_used(db)
    assert used is not None and used >= first


def test_the_database_refuses_unknown_scopes(db: Database) -> None:
    row = {
        "id": "key_1", "tenant_id": "t", "name": "n", "scope": "root", "secret_sha256": "0" * 64,
        "created_at": datetime.now(UTC),
    }  # fmt: skip
    with pytest.raises(IntegrityError), db.writing() as tx:
        tx.execute(insert(api_keys).values(row))
