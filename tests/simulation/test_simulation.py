"""Schedules by the thousand: whatever happens, every guarantee holds and every job comes to its end.

A schedule has one to three workers, one or two jobs of one to three epochs, and up to eight faults.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.simulation.schedule import Simulator, simulator


@pytest.fixture(scope="module")
def ready() -> Iterator[Simulator]:
    with simulator() as made:
        yield made


def chunks(seeds: range, size: int, *marks: pytest.MarkDecorator) -> list[object]:
    """Small enough that the processes of a test run share them evenly."""
    starts = seeds[::size]
    return [pytest.param(range(n, n + size), id=f"{n}-{n + size - 1}", marks=marks) for n in starts]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "seeds", chunks(range(1000), 50) + chunks(range(10_000, 20_000), 250, pytest.mark.hours)
)
def test_every_schedule_keeps_every_guarantee(
    ready: Simulator, seeds: range, record_property: Callable[[str, object], None]
) -> None:
    total: Counter[str] = Counter()
    for seed in seeds:
        total += ready.run(seed)
    record_property("schedules", dict(total))
    assert total["kills"] > len(seeds) / 4 and total["attempts"] > 1.25 * len(seeds), (
        "a calm sea proves little"
    )
