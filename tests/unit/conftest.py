"""Unit tests talk to nobody: no socket but those within a machine's own processes (asyncio needs a pair)."""

import pytest
import pytest_socket


def pytest_runtest_setup(item: pytest.Item) -> None:
    pytest_socket.disable_socket(allow_unix_socket=True)
