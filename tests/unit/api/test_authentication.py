"""Who comes in: stored keys, keys of the environment, nobody; and an absent database lets in nobody new."""

import hmac
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from sqlalchemy import select
from starlette.testclient import TestClient

from api import authentication
from api.app import create_app
from api.known_keys import AWAY_SECONDS, FRESH_SECONDS, KnownKeys
from models import key_spec, key_store
from models.database import Database
from models.errors import DatabaseUnavailable
from models.key_store import Made
from models.logs import configure_logs
from models.settings import Settings
from models.tables import api_keys
from tests.plain_logs import log_plainly
from tests.unit.api.keyed import Clock, bearer, make

Problem = Callable[..., dict[str, Any]]
SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("api.app.KnownKeys", lambda db: KnownKeys(db, clock))
    return clock


@pytest.fixture
def made(db: Database) -> Made:
    return make(db)


@pytest.fixture
def keyed(clock: Clock, made: Made, client: TestClient) -> TestClient:
    """A server that has one key, of an admin."""
    return client


def altered(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: None, lambda key: "", lambda key: "Bearer", lambda key: "Bearer ",
        lambda key: key, lambda key: f"Basic {key}", lambda key: f"Bearer {key}x",
        lambda key: f"Bearer {altered(key, -2)}", lambda key: f"Bearer {altered(key, 40)}",
        lambda key: f"Bearer {key[:-1]}", lambda key: f"Bearer {key.upper()}",
        lambda key: f"Bearer {key[:37]}", lambda key: "Bearer pdr_" + "0" * 32 + "_" + "A" * 43,
        lambda key: f"Bearer {key[:37]}{'é' * 43}", lambda key: "Bearer " + "x" * 10_000,
        lambda key: f"Bearer {key},{key}", lambda key: f"Bearer {key[:37]}%00{key[40:]}",
        lambda key: "Bearer ' OR 1=1 --",
    ],
)  # fmt: skip
def test_no_key_and_wrong_ones(
    keyed: TestClient, made: Made, problem: Problem, spoil: Callable[[str], str | None]
) -> None:
    header = spoil(made.token.text)
    headers: Any = {} if header is None else {"Authorization": header.encode()}
    for path in ("/jobs", "/keys", "/docs", "/openapi.json", "/nope", "/v1/jobs", "/metrics"):
        response = keyed.get(path, headers=headers)
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
        assert made.token.secret not in response.text


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_the_right_one(keyed: TestClient, made: Made, header: str) -> None:
    response = keyed.get("/jobs", headers={"Authorization": header.format(made.token.text)})
    assert response.status_code == 200


def test_refused_requests_leave_nothing(keyed: TestClient, num_jobs: Callable[[], int], bell: Any) -> None:
    assert keyed.post("/jobs", json=SPEC).status_code == 401
    assert keyed.post("/jobs", json=SPEC, headers=bearer("pdr_no")).status_code == 401
    assert num_jobs() == 0 and bell.rings == []


def test_every_way_of_being_wrong_is_compared_in_constant_time(
    keyed: TestClient, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: Any, other: Any) -> bool:
        compared.append((len(one), len(other)))
        return bool(hmac.compare_digest(one, other))

    monkeypatch.setattr(key_spec, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    unknown = key_spec.Token.make().text
    for key in (made.token.text, altered(made.token.text, -2), altered(made.token.text, 40), unknown):
        keyed.get("/jobs", headers=bearer(key))
    assert compared == [(64, 64)] * 4  # hashes, whether or not there is a key of that id


def test_keys_of_the_environment_are_all_compared(
    settings: Settings, db: Database, bell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.api_keys = ("one", "two", "three")
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(authentication, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    with TestClient(create_app(settings)) as client:
        assert client.get("/jobs", headers=bearer("one")).status_code == 200
        assert client.get("/jobs", headers=bearer("four")).status_code == 401
    assert compared == [32] * 6


def test_keys_of_both_kinds_open(settings: Settings, made: Made, bell: Any) -> None:
    settings.api_keys = ("of-the-environment",)
    with TestClient(create_app(settings)) as client:
        for key in (made.token.text, "of-the-environment"):
            assert client.get("/keys", headers=bearer(key)).status_code == 200
        assert client.get("/jobs").status_code == 401


# -- Revocation, and what is kept ------------------------------------------------------------------


def test_a_revoked_key_stops_within_seconds(
    keyed: TestClient, made: Made, clock: Clock, db: Database
) -> None:
    """Revoked by another process, say: the database is all that they share."""
    assert keyed.get("/jobs", headers=bearer(made)).status_code == 200
    key_store.revoke_key(db, made.key.id)
    clock.seconds += FRESH_SECONDS
    assert FRESH_SECONDS <= 3.0
    assert keyed.get("/jobs", headers=bearer(made)).status_code == 401
    assert keyed.get("/jobs").status_code == 401, "the last key is revoked, and the door stays shut"


def test_a_stream_ends_with_its_key(
    keyed: TestClient, made: Made, clock: Clock, db: Database, settings: Settings
) -> None:
    services = keyed.app.state.services  # type: ignore[attr-defined]
    sent: list[bytes] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"1", b"2", b"3"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            clock.seconds += FRESH_SECONDS
            if part == b"2":
                key_store.revoke_key(db, made.key.id)

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    app = SimpleNamespace(state=SimpleNamespace(services=services))
    header = (b"authorization", f"Bearer {made.token.text}".encode())
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [header], "app": app, "state": {}}
    assert keyed.portal is not None
    with pytest.raises(OSError, match="revoked"):
        keyed.portal.call(authentication.Authentication(stream, settings), scope, None, send)
    assert sent == [b"", b"1", b"2"]


def test_a_new_key_works_at_once(keyed: TestClient, db: Database) -> None:
    assert keyed.get("/jobs", headers=bearer(key_spec.Token.make().text)).status_code == 401
    assert keyed.get("/jobs", headers=bearer(make(db))).status_code == 200


def test_a_key_in_use_costs_the_database_nothing(
    keyed: TestClient, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed.get("/models", headers=bearer(made))
    monkeypatch.setattr(key_store, "find_key", None)
    for _ in range(20):
        assert keyed.get("/models", headers=bearer(made)).status_code == 200


def await_notes(client: TestClient) -> None:
    """What is written in the background is written by one thread, in order."""
    client.app.state.services.known_keys._writer.submit(lambda: None).result(10)  # type: ignore[attr-defined]


def test_its_last_use_is_noted_once_a_minute(
    keyed: TestClient, made: Made, clock: Clock, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    original = key_store.key_used

    def note(db: Database, key_id: str) -> None:
        original(db, key_id)
        noted.append(key_id)

    monkeypatch.setattr(key_store, "key_used", note)
    for seconds in range(0, 180, 5):
        clock.seconds = 1000.0 + seconds
        keyed.get("/models", headers=bearer(made))
        keyed.get("/models", headers=bearer(altered(made.token.text, -2)))
    await_notes(keyed)
    assert noted == [made.key.id] * 3
    assert key_store.list_keys(db)[0].last_used_at is not None


def test_a_wrong_secret_is_no_use(keyed: TestClient, made: Made, db: Database) -> None:
    keyed.get("/models", headers=bearer(altered(made.token.text, -2)))
    await_notes(keyed)
    assert key_store.list_keys(db)[0].last_used_at is None


# -- The door of a server without keys ---------------------------------------------------------------


def test_without_any_key_loopback_is_open_until_there_is_one(
    clock: Clock, client: TestClient, db: Database, problem: Problem
) -> None:
    assert client.get("/jobs").status_code == 200
    assert client.get("/jobs", headers=bearer("anything")).status_code == 200, "as it always was"
    answer = client.post("/keys", json={"name": "first", "scopes": ["admin"]})
    assert answer.status_code == 201
    clock.seconds += FRESH_SECONDS
    problem(client.get("/jobs"), 401, "unauthenticated")
    assert client.get("/jobs", headers=bearer(answer.json()["key"])).status_code == 200


def test_beyond_loopback_nothing_opens_it(
    settings: Settings, db: Database, bell: Any, problem: Problem
) -> None:
    settings.host = "0.0.0.0"
    with TestClient(create_app(settings)) as client:
        problem(client.get("/jobs"), 401, "unauthenticated")
        assert client.get("/health/live").status_code == 200


# -- The database is away ----------------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: Any) -> Any:
        raise DatabaseUnavailable from sqlite3.OperationalError("gone")

    def go() -> None:
        for name in ("find_key", "any_key", "key_used"):
            monkeypatch.setattr(key_store, name, refuse)

    return go


def test_a_known_key_is_still_known(
    keyed: TestClient, made: Made, clock: Clock, away: Callable[[], None], problem: Problem, db: Database
) -> None:
    stranger = make(db)
    keyed.get("/jobs", headers=bearer(made))
    away()
    for _ in range(3):
        clock.seconds += FRESH_SECONDS
        assert keyed.get("/models", headers=bearer(made)).status_code == 200
    for headers in (bearer(stranger), bearer(key_spec.Token.make().text)):
        response = keyed.get("/models", headers=headers)
        problem(response, 503, "database_unavailable")
        assert response.headers["retry-after"]
    for headers in ({}, bearer("no-key"), bearer(altered(made.token.text, -2))):
        assert keyed.get("/models", headers=headers).status_code in {401, 503}
    clock.seconds += AWAY_SECONDS
    problem(keyed.get("/models", headers=bearer(made)), 503, "database_unavailable")


def test_an_open_door_is_not_held_open(
    clock: Clock, client: TestClient, away: Callable[[], None], problem: Problem
) -> None:
    """Somebody may have made a key meanwhile that this process cannot know of."""
    assert client.get("/models").status_code == 200
    away()
    clock.seconds += FRESH_SECONDS
    problem(client.get("/models"), 503, "database_unavailable")
    assert client.get("/health/live").status_code == 200


# -- Nothing tells a secret --------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process would print."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs()
    structlog.configure(cache_logger_on_first_use=False)
    yield written
    log_plainly()


def test_no_secret_in_logs_answers_or_the_database(
    log: io.StringIO, keyed: TestClient, made: Made, db: Database, settings: Settings
) -> None:
    said: list[str] = []
    for method, path, body in [
        ("POST", "/keys", {"name": "bad\n"}), ("POST", "/keys", {"name": "k", "scopes": ["root"]}),
        ("POST", "/jobs", SPEC), ("GET", "/keys", None), ("GET", "/nope", None),
        ("DELETE", "/keys/key_1", None),
    ]:  # fmt: skip
        for key in (made.token.text, altered(made.token.text, -2)):
            said.append(keyed.request(method, path, json=body, headers=bearer(key)).text)
    answer = keyed.post("/keys", json={"name": "new"}, headers={**bearer(made), "Idempotency-Key": "k"})
    token = key_spec.Token.parse(answer.json()["key"])
    assert token is not None
    said += [keyed.get("/keys", headers=bearer(made)).text, log.getvalue(), repr(made), repr(made.token)]
    with db.reading() as tx:
        said += [repr(tx.execute(select(api_keys)).all())]
    stored = (settings.home / "perdure.db").read_bytes() + (settings.home / "perdure.db-wal").read_bytes()
    for hidden in (made.token.secret, token.secret):
        assert not [text for text in said if hidden in text]
        assert hidden.encode() not in stored
    lines = [json.loads(line) for line in log.getvalue().splitlines() if '"request"' in line]
    assert {line.get("key_id") for line in lines} == {made.key.id, None}
    assert all(line.get("tenant_id") == "default" for line in lines if line.get("key_id"))
