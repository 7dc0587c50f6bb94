"""Real servers, one of each for a test process, started when the first test asks for it."""

from collections.abc import Iterator

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that tests share: whoever stops or freezes it starts it again."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A broker that tests share: whoever stops or freezes it starts it again."""
    with ValkeyServer() as server:
        yield server
