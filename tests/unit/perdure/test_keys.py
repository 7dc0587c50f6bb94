"""`perdure keys` becomes the process that has the database; ``client.keys`` asks the server."""

import os
from typing import Any

import pytest

from perdure.client import Perdure
from tests.unit.perdure.command_line import Run
from tests.unit.perdure.conftest import FakeServer

KEY: dict[str, Any] = {"id": "key_1", "name": "ci", "scopes": ["read"], "created_at": "2025-01-01T00:00:00Z"}


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What the command line turned into."""
    found: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda path, argv, env: found.append((argv, env)))
    return found


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["create", "ci"], ["create", "--scope=write", "--tenant=default", "--", "ci"]),
        (
            ["create", "--scope", "admin", "--tenant", "acme", "--json", "--", "-x"],
            ["create", "--scope=admin", "--tenant=acme", "--json", "--", "-x"],
        ),
        (["list"], ["list"]),
        (["list", "--tenant", "acme", "--json"], ["list", "--tenant=acme", "--json"]),
        (["revoke", "key_1"], ["revoke", "--", "key_1"]),
    ],
)
def test_the_process_that_it_becomes(
    run: Run, became: list[tuple[list[str], dict[str, str]]], typed: list[str], passed: list[str]
) -> None:
    assert run("keys", *typed)[0] == 0
    [(argv, environment)] = became
    assert argv[-len(passed) - 1 :] == ["models.keys", *passed]
    assert environment["PERDURE_HOME"].endswith("/.perdure")


def test_another_home(run: Run, became: list[tuple[list[str], dict[str, str]]]) -> None:
    run("keys", "list", "--home", "/srv/perdure")
    assert became[0][1]["PERDURE_HOME"] == "/srv/perdure"


@pytest.mark.parametrize(
    "typed", [[], ["create"], ["create", "ci", "--scope", "root"], ["revoke"], ["delete"]]
)
def test_wrong_usage(run: Run, became: list[Any], typed: list[str]) -> None:
    assert run("keys", *typed)[0] == 2
    assert became == []


def test_the_client_makes_lists_and_revokes(server: FakeServer, client: Perdure) -> None:
    server.routes["POST /keys"] = KEY | {"key": "pdr_secret"}
    made = client.keys.create("ci", scopes=["read"])
    assert made.key == "pdr_secret" and "pdr_secret" not in repr(made)
    server.routes["GET /keys"] = server.page([KEY, KEY | {"id": "key_0"}])
    assert [key.id for key in client.keys.list()] == ["key_1", "key_0"]
    server.routes["DELETE /keys/key_1"] = {}
    client.keys.revoke("key_1")
    assert server.bodies()[0] == {"name": "ci", "scopes": ["read"]}
    assert [request.method for request in server.requests] == ["POST", "GET", "DELETE"]
