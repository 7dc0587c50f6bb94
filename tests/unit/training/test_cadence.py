"""How often to save within an epoch: what Young and Daly say, within bounds."""

import math
from typing import Any

import pytest

from models.job_spec import CheckpointEvery
from worker.training.cadence import Cadence

HOUR = 3600.0


def cadence(*, failures: float = HOUR, now: float = 0.0, **rule: Any) -> Cadence:
    return Cadence(CheckpointEvery.model_validate(rule), failures, now)


WIDE = {"min_seconds": 1.0, "max_seconds": 86_400.0}


@pytest.mark.parametrize(
    ("cost_seconds", "failures", "interval_seconds"),
    [
        (0.5, 3600.0, 60.0),  # sqrt(2 × 0.5 × 3600)
        (2.0, 3600.0, 120.0),  # four times the cost, twice the interval
        (0.5, 14_400.0, 120.0),  # so with four times the time between failures
        (0.02, 10_000.0, 20.0),
        (8.0, 86_400.0, math.sqrt(1_382_400.0)),
    ],
)
def test_the_optimum_by_hand(cost_seconds: float, failures: float, interval_seconds: float) -> None:
    rule = cadence(failures=failures, **WIDE)
    rule.measured(cost_seconds, write_seconds=0.0)
    assert rule.interval_seconds == pytest.approx(interval_seconds)


def test_it_wastes_less_than_its_neighbours() -> None:
    """Saving costs C every T seconds; a failure every M seconds loses half an interval."""
    cost, failures = 0.5, 7200.0
    rule = cadence(failures=failures, **WIDE)
    rule.measured(cost, write_seconds=0.0)

    def waste(interval: float) -> float:
        return cost / interval + interval / (2 * failures)

    optimum = rule.interval_seconds
    assert waste(optimum) < min(waste(0.9 * optimum), waste(1.1 * optimum))


def test_before_anything_was_measured_it_is_soon() -> None:
    rule = cadence(min_seconds=7.0, max_seconds=50.0)
    assert rule.interval_seconds == 7.0
    assert not rule.is_due(6.9) and rule.is_due(7.0)


def test_the_bounds_hold() -> None:
    cheap, dear = (cadence(min_seconds=10.0, max_seconds=50.0) for _ in range(2))
    cheap.measured(1e-6, write_seconds=0.0)
    dear.measured(100.0, write_seconds=0.0)
    assert (cheap.interval_seconds, dear.interval_seconds) == (10.0, 50.0)


def test_seconds_that_a_user_names_are_kept_whatever_is_measured() -> None:
    rule = cadence(seconds=3.0, min_seconds=10.0, max_seconds=50.0)
    assert rule.interval_seconds == 3.0
    rule.measured(100.0, write_seconds=1000.0)
    assert rule.interval_seconds == 3.0
    assert not rule.is_due(2.9) and rule.is_due(3.0)


@pytest.mark.parametrize("write_seconds", [0.0, 5.0, 20.0, 30.0])
def test_the_bound_includes_the_write_in_flight(write_seconds: float) -> None:
    """Until a checkpoint is durable, a crash loses what was done since the snapshot before it."""
    rule = cadence()
    rule.measured(100.0, write_seconds)
    assert rule.interval_seconds + write_seconds == 60.0


def test_training_never_waits_for_a_slow_store_all_the_time() -> None:
    rule = cadence(min_seconds=10.0, max_seconds=50.0)
    rule.measured(0.001, write_seconds=60.0)
    assert rule.interval_seconds == 60.0, "beyond the upper bound, too"
    rule.measured(0.001, write_seconds=1.0)
    assert rule.interval_seconds == 10.0, "a store that is quick again is trusted again"


def test_one_odd_measurement_counts_for_less_than_half() -> None:
    rule = cadence(failures=5000.0, **WIDE)
    rule.measured(1.0, write_seconds=0.0)
    assert rule.interval_seconds == pytest.approx(100.0)
    rule.measured(11.0, write_seconds=0.0)  # 0.7 × 1 + 0.3 × 11 = 4
    assert rule.interval_seconds == pytest.approx(200.0)


def test_time_counts_from_the_last_snapshot() -> None:
    rule = cadence(seconds=5.0, now=100.0)
    assert not rule.is_due(104.9) and rule.is_due(105.0)
    rule.saved(105.0)
    assert not rule.is_due(109.9) and rule.is_due(110.0)
