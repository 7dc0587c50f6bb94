"""Schedules by the thousand: whatever happens, every guarantee holds and every job comes to its end.

A schedule has one to three workers, one or two jobs of one to three epochs, and up to eight faults.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.simulation.schedule import GuaranteeBroken, Simulator, simulator
from tests.simulation.seeded_bugs import BUGS, broken

#: Far more than any bug of the list needs.
ENOUGH = 400


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
    "seeds", chunks(range(1000), 50) + chunks(range(10_000, 20_000), 250, pytest.mark.long)
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


@pytest.mark.parametrize("bug", BUGS)
def test_a_broken_guarantee_is_noticed(ready: Simulator, bug: str) -> None:
    with broken(bug):
        alarm = first_alarm(ready)
    assert alarm is not None, f"{bug} was not noticed in {ENOUGH} schedules"
    assert "TypeError" not in alarm, f"{bug} no longer fits the code that it is to break: {alarm}"


def first_alarm(ready: Simulator) -> str | None:
    for seed in range(ENOUGH):
        try:
            ready.run(seed)
        except GuaranteeBroken as alarm:
            return str(alarm.__cause__)
    return None
