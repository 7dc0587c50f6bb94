"""Real servers, one of each for a test process, started when the first test asks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.stack import Stack


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


@pytest.fixture
def make_stack(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Stack]:
    """``make_stack("sqlite" | "postgresql", VARIABLE=value, …)``: the service as processes, to be broken."""

    def make(kind: str, **environment: str) -> Stack:
        broker: ValkeyServer = request.getfixturevalue("valkey")
        if kind == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            database_url = server.create_database()
        else:
            database_url = f"sqlite:///{tmp_path / 'perdure.db'}"
        return Stack(tmp_path / "home", database_url, broker.url, environment)

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each kill hit and cost, also where the tests ran in other processes."""
    for test in terminalreporter.getreports("passed"):
        for name, value in test.user_properties:
            if name == "kills":
                terminalreporter.section(f"kills: {test.nodeid}")
                terminalreporter.write_line(str(value))
