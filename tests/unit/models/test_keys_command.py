"""``python -m models.keys``: the first key needs no other, and what is wrong is one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models import key_store, keys
from models.database import Database
from models.key_spec import Token
from models.tables import metadata

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))
    monkeypatch.delenv("PERDURE_DATABASE_URL", raising=False)
    monkeypatch.setattr(keys, "schema_state", lambda db: "current")  # as after the migrations
    db = Database(f"sqlite:///{tmp_path / 'perdure.db'}")
    metadata.create_all(db.engine)
    return db


@pytest.fixture
def command(db: Database, capsys: pytest.CaptureFixture[str]) -> Command:
    """The arguments to exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = keys.main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_key_is_made_and_shown_once(command: Command, db: Database) -> None:
    status, out, err = command("create", "--scope=admin", "--tenant=acme", "--", "-ci")
    assert (status, err) == (0, "")
    token = Token.parse(out.splitlines()[-1])
    assert token is not None
    key = key_store.find_key(db, token.key_id)
    assert key is not None and token.is_that_of(key.secret_sha256)
    assert (key.name, key.tenant_id, key.scope) == ("-ci", "acme", "admin")
    status, out, _ = command("list")
    assert status == 0 and token.secret not in out
    assert key.id in out and "read, write, admin" in out and "never used" in out and "-ci" in out


def test_as_json(command: Command) -> None:
    made = json.loads(command("create", "日本語", "--json")[1])
    assert made["key"].startswith("pdr_") and made["scopes"] == ["read", "write"]
    assert made["tenant_id"] == "default" and made["created_at"].endswith("Z")
    listed = {name: value for name, value in made.items() if name != "key"}
    assert json.loads(command("list", "--json")[1]) == [listed]
    revoked = json.loads(command("revoke", made["id"], "--json")[1])
    assert revoked["revoked_at"] is not None
    assert json.loads(command("list", "--tenant=acme", "--json")[1]) == []


def test_all_pages_are_listed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "perdure keys create" in command("list")[1]
    monkeypatch.setattr(keys, "_PAGE", 2)
    for number in range(5):
        command("create", f"n{number}")
    assert [line.split()[-1] for line in command("list")[1].splitlines()] == ["n4", "n3", "n2", "n1", "n0"]


def test_revoking(command: Command, db: Database) -> None:
    assert command("exist")[0] == 1
    key_id = json.loads(command("create", "ci", "--json")[1])["id"]
    assert command("exist")[0] == 0
    assert command("revoke", key_id)[0] == 0
    assert key_store.find_key(db, key_id) is None
    assert "revoked" in command("list")[1]
    assert command("exist")[0] == 0, "there was a key once"
    status, out, err = command("revoke", "key_nobodys")
    assert (status, out) == (1, "") and "no key with that id" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "a\nb"), ("create", "a\x1b[2J"), ("create", "a\u202eb"), ("create", ""),
        ("create", "x" * 201), ("create", "ci", "--tenant=A B"), ("create", "ci", "--tenant="),
        ("create", "ci", "--tenant=../x"), ("create", "ci", "--tenant=" + "x" * 64),
    ],
)  # fmt: skip
def test_names_that_are_refused(command: Command, db: Database, arguments: tuple[str, ...]) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert key_store.list_keys(db) == []


def test_without_a_schema_it_says_what_to_do(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "schema_state", lambda db: "behind")
    status, _, err = command("create", "ci")
    assert status == 2 and "perdure migrate" in err


def test_without_a_database(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "no/such"))
    status, _, err = command("create", "ci")
    assert status == 1 and "does not answer" in err and "Traceback" not in err
