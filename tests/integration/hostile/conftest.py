"""One installation for all cases, and the oracle that remembers it as it was."""

from collections.abc import Iterator

import pytest

from tests.integration.hostile.attacked import Attacked, attacked_service
from tests.integration.hostile.oracle import Oracle
from tests.servers.valkey import ValkeyServer


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with (
        ValkeyServer() as broker,
        attacked_service(tmp_path_factory.mktemp("attacked"), broker) as attacked,
    ):
        yield attacked


@pytest.fixture(scope="session")
def oracle(attacked: Attacked) -> Oracle:
    # What a first request costs is no leak.
    for path in ("/jobs", "/models", "/openapi.json", "/jobs/nothing"):
        for _ in range(3):
            attacked.send("GET", path)
    return Oracle(attacked)
