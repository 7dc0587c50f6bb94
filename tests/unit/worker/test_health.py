"""Whom failures accuse: a job, the machine, or nobody."""

import pytest

from worker.health import FAILURES_IN_A_ROW, LONGEST_REST_SECONDS, Health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


def fail(health: Health, *jobs: str, explained: bool = False) -> None:
    for job_id in jobs:
        health.failed(job_id, explained=explained)


@pytest.mark.parametrize(
    ("failures", "accused"),
    [
        ("", False),
        ("a", False),
        ("ab", False),
        ("aaaaaaa", False),
        ("aab", True),
        ("abc", True),
        ("aaab", True),
    ],
)
def test_failures_of_different_jobs_in_a_row_accuse_the_machine(
    health: Health, failures: str, accused: bool
) -> None:
    fail(health, *failures)
    assert (health.accusation is not None) == accused


def test_the_accusation_names_the_jobs_and_what_to_do(health: Health) -> None:
    fail(health, "job_2", "job_2", "job_1")
    assert health.accusation is not None
    assert "3 attempts in a row" in health.accusation and "of 2 jobs (job_1, job_2)" in health.accusation
    assert "enable" in health.accusation


def test_any_step_done_here_clears_the_machine(health: Health) -> None:
    fail(health, "a", "a")
    health.worked("c")
    fail(health, "b", "b")
    assert health.accusation is None
    fail(health, "c")
    assert health.accusation is not None


def test_errors_that_accuse_the_job_or_the_store_do_not_accuse_the_machine(health: Health) -> None:
    fail(health, "a", "b", "c", "d", explained=True)
    assert health.accusation is None
    assert FAILURES_IN_A_ROW == 3


def test_after_an_acquittal_the_count_begins_anew(health: Health) -> None:
    fail(health, "a", "a", "b")
    health.acquit()
    assert health.accusation is None
    fail(health, "a", "b")
    assert health.accusation is None


def test_a_job_that_fails_twice_rests_a_little_longer_each_time(health: Health, clock: Clock) -> None:
    fail(health, "a")
    assert health.may_retry_here("a") and health.resting() == []
    rests = []
    for _ in range(8):
        fail(health, "a")
        assert not health.may_retry_here("a")
        began = clock.now
        while "a" in health.resting():
            clock.now += 0.25
        rests.append(clock.now - began)
    assert rests == [1.0, 2.0, 4.0, 8.0, *[LONGEST_REST_SECONDS] * 4]
    assert health.may_retry_here("b")


def test_a_step_makes_a_job_welcome_again(health: Health) -> None:
    fail(health, "a", "a")
    health.worked("a")
    assert health.may_retry_here("a") and health.resting() == []
