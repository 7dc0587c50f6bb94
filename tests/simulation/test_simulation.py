"""Schedules by the thousand: whatever happens, every guarantee holds and every job comes to its end.

A schedule has one to three workers, one or two jobs of one to three epochs, and up to six faults.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.simulation.schedule import simulator


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first, count", [(0, 1000), pytest.param(10_000, 10_000, marks=pytest.mark.long)])
def test_every_schedule_keeps_every_guarantee(
    first: int, count: int, record_property: Callable[[str, object], None]
) -> None:
    total: Counter[str] = Counter()
    with simulator() as ready:
        for seed in range(first, first + count):
            total += ready.run(seed)
    record_property("schedules", _in_words(total, count))
    assert total["kills"] > count / 3 and total["attempts"] > 1.5 * count, "a calm sea proves little"


def test_a_schedule_is_replayed_by_its_seed() -> None:
    with simulator() as ready:
        assert ready.run(7) == ready.run(7)


def _in_words(total: Counter[str], count: int) -> str:
    means = ", ".join(f"{total[name] / count:.1f} {name}" for name in ("events", "transactions", "attempts"))
    sums = ", ".join(f"{number} {name}" for name, number in sorted(total.items()))
    return f"{count} schedules; each on average {means}. In all: {sums}."
