"""Stacks of real processes, on either database, each with a broker of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.stack import Stack


@pytest.fixture
def make_stack(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Stack]:
    """``make_stack("sqlite" | "postgresql", **settings)``; the servers end with the test."""

    def make(kind: str, **environment: str) -> Stack:
        broker: ValkeyServer = request.getfixturevalue("valkey")
        if kind == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            database_url = server.create_database()
        else:
            database_url = f"sqlite:///{tmp_path / 'perdure.db'}"
        return Stack(tmp_path / "home", database_url, broker.url, environment)

    return make
