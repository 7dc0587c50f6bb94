"""Hung is not alive, and slow is not hung."""

import pytest

from models.job_state import Phase
from worker.stall_watch import _LIMITS, StallWatch


def trained(*instants: float, least: float | None = None) -> StallWatch:
    """A watch that saw steps at these instants."""
    watch = StallWatch(0.0, least)
    for now in instants:
        watch.progressed(Phase.TRAINING, now)
    return watch


def test_every_phase_has_a_limit() -> None:
    assert set(_LIMITS) == set(Phase)


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_stalls_at_its_own_limit(phase: Phase) -> None:
    watch = StallWatch(0.0)
    watch.progressed(phase, 10.0)
    limit = watch.limit_seconds
    assert limit == _LIMITS[phase]
    assert watch.stalled_for(10.0 + limit) is None
    assert watch.stalled_for(10.0 + limit + 1) == limit + 1


def test_a_trainer_that_never_says_a_word_stalls() -> None:
    watch = StallWatch(100.0)
    assert watch.stalled_for(100.0 + _LIMITS[Phase.STARTING]) is None
    assert watch.stalled_for(101.0 + _LIMITS[Phase.STARTING]) is not None


def test_any_progress_begins_the_time_anew() -> None:
    watch = trained(*range(0, 1000, 29))
    assert watch.stalled_for(999.0 + 15) is None


def test_a_slow_step_earns_patience() -> None:
    watch = trained(0.0, 20.0)
    assert watch.limit_seconds == 100.0
    assert watch.stalled_for(119.0) is None
    assert watch.stalled_for(121.0) == 101.0


def test_patience_outlives_other_phases() -> None:
    """A checkpoint between two steps does not make the next step faster."""
    watch = trained(0.0, 20.0)
    watch.progressed(Phase.CHECKPOINT, 21.0)
    assert watch.limit_seconds == 60.0
    watch.progressed(Phase.TRAINING, 22.0)
    assert watch.limit_seconds == 100.0


def test_the_first_tick_of_a_phase_says_nothing_of_its_pace() -> None:
    watch = StallWatch(0.0)
    watch.progressed(Phase.TRAINING, 25.0)
    assert watch.limit_seconds == 30.0


def test_a_setting_replaces_every_limit() -> None:
    watch = StallWatch(0.0, least_seconds=2.0)
    assert watch.limit_seconds == 2.0
    watch.progressed(Phase.TRAINING, 1.0)
    watch.progressed(Phase.TRAINING, 2.0)
    assert watch.limit_seconds == 5.0, "but slow steps keep their patience"


def test_a_parked_trainer_may_wait() -> None:
    watch = trained(0.0)
    watch.suspend(True, 10.0)
    assert watch.stalled_for(10_000.0) is None
    watch.suspend(False, 10_000.0)
    assert watch.stalled_for(10_030.0) is None
    assert watch.stalled_for(10_031.0) == 31.0


def test_a_trainer_that_hangs_while_parked_is_noticed_once_its_lease_is_confirmed() -> None:
    watch = trained(0.0)
    watch.suspend(True, 10.0)
    watch.reassured(20.0)
    watch.reassured(45.0)  # renewals go on, and are no progress
    assert watch.stalled_for(51.0) == 31.0


def test_time_that_we_slept_through_is_no_fault_of_the_trainer() -> None:
    watch = trained(0.0, 1.0)
    watch.excuse(500.0, 501.0)
    assert watch.stalled_for(501.0) is None
    assert watch.stalled_for(532.0) == 31.0


def test_an_excuse_reaches_no_further_than_now() -> None:
    """Else a stall right after it would be noticed as much later as we slept."""
    watch = trained(0.0, 500.0)
    watch.excuse(500.0, 501.0)
    assert watch.stalled_for(532.0) == 31.0


def test_a_tick_that_waited_for_us_teaches_no_patience() -> None:
    watch = trained(0.0, 1.0, 601.0)
    assert watch.limit_seconds == 30.0


def test_a_phase_of_a_newer_trainer_is_watched_too() -> None:
    watch = StallWatch(0.0)
    watch.progressed("compiling", 1.0)
    assert watch.stalled_for(62.0) == 61.0
