"""Unit tests talk to nobody: no sockets but unix ones, of which asyncio needs a pair."""

import pytest
import pytest_socket


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("enable_socket") is None:
        pytest_socket.disable_socket(allow_unix_socket=True)
