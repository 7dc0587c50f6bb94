"""Trainer processes without a service around them, for faults that need nothing else of it."""

from pathlib import Path

import pytest

from tests.unit.training.conftest import data_root, forker, new_job, painted, start

__all__ = ["data_root", "forker", "new_job", "painted", "start"]


#: Too slow, or too new, for the quarter of an hour of `make test`; `make checkers` runs them.
BEYOND_THE_QUARTER_HOUR = {
    "test_bad_worker", "test_broker_partitions", "test_clock_skew", "test_database_refusals", "test_drain",
    "test_drills", "test_lost_replies", "test_many_lost", "test_partitions", "test_poison", "test_stalls",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem in BEYOND_THE_QUARTER_HOUR:
            item.add_marker(pytest.mark.long)
