"""Real servers, one of each for a test process, started when the first test asks for it."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.plain_logs import log_plainly
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.valkey import ValkeyServer
from tests.simulation.summary import in_words
from tests.stack import Stack


def pytest_configure() -> None:
    """A shell's background jobs begin with SIGINT ignored, and so would whatever tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    log_plainly()


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
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A test's own, to be told to fail; this process's environment leads to it."""
    with S3Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def shared_s3() -> Iterator[S3Server]:
    """An S3 server that tests share, each with a bucket of its own."""
    with S3Server() as server:
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``PERDURE_TEST_SKIPS=no``, as in CI, a test that cannot be run here has failed."""
    report = yield
    is_needless = item.get_closest_marker("gpu") is not None
    if report.skipped and not is_needless and os.environ.get("PERDURE_TEST_SKIPS") == "no":
        report.outcome = "failed"
        report.longrepr = f"Skipped where nothing may be: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What kills hit and cost, what was measured, what schedules held, also in other processes."""
    schedules: Counter[str] = Counter()
    for test in terminalreporter.getreports("passed"):
        for name, value in test.user_properties:
            if name in {"kills", "measured"}:
                terminalreporter.section(f"{name}: {test.nodeid}")
                terminalreporter.write_line(str(value))
            if name == "schedules":
                schedules.update(value)  # type: ignore[call-overload]
    if schedules:
        terminalreporter.section("simulated schedules that kept every guarantee")
        terminalreporter.write_line(in_words(schedules))
    caught = [
        str(value)
        for test in terminalreporter.getreports("passed")
        for name, value in test.user_properties
        if name == "seeded bug"
    ]
    if caught:
        terminalreporter.section("seeded bugs: what each breaks, who caught it, after how much CPU time")
        terminalreporter.write_line("\n".join(sorted(caught)))
