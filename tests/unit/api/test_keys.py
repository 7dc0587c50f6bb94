"""Making, listing and revoking keys over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import key_store
from models.database import Database
from tests.unit.api.keyed import Headers, bearer, make

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def admin(db: Database) -> Headers:
    return bearer(make(db, "admin", "acme"))


def test_a_key_is_made_used_and_revoked(client: TestClient, admin: Headers, db: Database) -> None:
    answer = client.post("/keys", json={"name": "ci", "scopes": ["write"]}, headers=admin)
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["object"], body["name"], body["tenant_id"]) == ("key", "ci", "acme")
    assert body["scopes"] == ["read", "write"], "each includes those before it"
    assert body["last_used_at"] is None and body["revoked_at"] is None and body["created_at"].endswith("Z")
    assert client.get("/jobs", headers=bearer(body["key"])).status_code == 200

    listed = client.get("/keys", headers=admin).json()["data"]
    assert listed[0]["id"] == body["id"]
    assert all("key" not in row for row in listed)

    for _ in range(2):
        assert client.delete(f"/keys/{body['id']}", headers=admin).status_code == 204
    revoked = client.get("/keys", headers=admin).json()["data"][0]
    assert revoked["id"] == body["id"] and revoked["revoked_at"]
    assert key_store.find_key(db, body["id"]) is None


def test_a_replayed_answer_has_no_key(client: TestClient, admin: Headers, db: Database) -> None:
    headers = {**admin, "Idempotency-Key": "once"}
    first = client.post("/keys", json={"name": "ci"}, headers=headers)
    again = client.post("/keys", json={"name": "ci"}, headers=headers)
    assert again.status_code == 201 and again.headers["idempotent-replayed"] == "true"
    assert first.json()["key"] and again.json() == {**first.json(), "key": None}
    assert len(key_store.list_keys(db)) == 2


def test_tenants_do_not_touch_each_others_keys(
    client: TestClient, admin: Headers, db: Database, problem: Problem
) -> None:
    other = make(db, "admin", "other")
    assert [row["tenant_id"] for row in client.get("/keys", headers=admin).json()["data"]] == ["acme"]
    problem(client.delete(f"/keys/{other.key.id}", headers=admin), 404, "not_found")
    assert client.get("/keys", headers=bearer(other)).status_code == 200
    made = client.post("/keys", json={"name": "mine"}, headers=admin).json()
    assert made["tenant_id"] == "acme"
    unknown = {"name": "x", "tenant_id": "other"}
    problem(client.post("/keys", json=unknown, headers=admin), 422, "validation_failed")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": ""}, {"name": "x" * 201}, {"name": "a\nb"}, {"name": "a\x1b[31m"}, {"name": "a\u202eb"},
        {"name": "a\u200bb"}, {"name": "a\u2028b"}, {"name": 1}, {"name": None}, {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]}, {"name": "a", "scopes": "read"}, {"name": "a", "scopes": [1]},
        {"name": "a", "scopes": ["read"] * 4}, {"name": "a", "secret": "mine"},
    ],
)  # fmt: skip
def test_keys_that_are_refused(
    client: TestClient, admin: Headers, db: Database, problem: Problem, body: dict[str, Any]
) -> None:
    problem(client.post("/keys", json=body, headers=admin), 422, "validation_failed")
    assert len(key_store.list_keys(db)) == 1


@pytest.mark.parametrize("key_id", ["key_1", "job_1", "x", "key_%00", "key_" + "a" * 100, "%F0%9F%92%A9"])
def test_keys_that_are_not_there(client: TestClient, admin: Headers, problem: Problem, key_id: str) -> None:
    problem(client.delete(f"/keys/{key_id}", headers=admin), 404, "not_found")


def test_pages(client: TestClient, admin: Headers, db: Database, problem: Problem) -> None:
    for number in range(4):
        make(db, "read", "acme", name=f"n{number}")
    first = client.get("/keys?limit=3", headers=admin).json()
    assert [row["name"] for row in first["data"]] == ["n3", "n2", "n1"] and first["has_more"]
    rest = client.get(f"/keys?after={first['last_id']}", headers=admin).json()
    assert [row["name"] for row in rest["data"]] == ["n0", "ci"] and not rest["has_more"]
    problem(client.get("/keys?after=%00", headers=admin), 422, "validation_failed")
