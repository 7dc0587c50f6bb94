"""The server as a process, on either database, with nobody at the broker's address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import PostgresServer
from tests.stack import Stack

SPEC = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


def installation(home: Path, database_url: str) -> Stack:
    stack = Stack(home, database_url, "redis://127.0.0.1:9/0")
    for name in ("daisy", "rose"):
        folder = home / "data" / "flowers" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(b"")
    return stack


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("sqlite")
    with installation(home, f"sqlite:///{home / 'perdure.db'}") as stack:
        stack.start_api()
        yield stack


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("postgres")
    with installation(home, postgres.create_database()) as stack:
        stack.start_api()
        yield stack


@pytest.fixture(params=["sqlite", "postgres"])
def service(request: pytest.FixtureRequest) -> Stack:
    """Both databases, one process for each in a module."""
    stack: Stack = request.getfixturevalue(f"on_{request.param}")
    return stack
