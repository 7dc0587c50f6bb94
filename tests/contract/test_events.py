"""The trail of a job: what a running attempt tells, once, numbered without gaps."""

import pytest

from models import job_store
from models.job_state import EndCause, EventType
from tests.contract.world import World, at_once


def test_an_event_of_the_attempt(world: World) -> None:
    fence = world.running()
    job_store.record_event(
        world.db, fence, "evt_1", EventType.RESUME_VERIFIED, "Equal.", recorded=0.5, equal=True
    )
    event = world.event(fence.job_id, "resume.verified")
    assert (event.attempt, event.message, event.data) == (1, "Equal.", {"recorded": 0.5, "equal": True})


def test_an_event_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    job_store.record_event(world.db, fence, "evt_1", EventType.CHECKPOINT_DELAYED, "No room.")
    before = world.dump()
    job_store.record_event(world.db, fence, "evt_1", EventType.CHECKPOINT_DELAYED, "No room.")
    assert world.dump() == before
    job_store.record_event(world.db, fence, "evt_2", EventType.CHECKPOINT_DELAYED, "No room.")
    assert world.events(fence.job_id).count("checkpoint.delayed") == 2, "the same may happen again"


@pytest.mark.parametrize("text", ["a NUL \0 here", "a lone surrogate \udc80 here", "\0" * 3, "\ud800\udfff"])
def test_a_trainers_words_are_kept_whatever_they_hold(world: World, text: str) -> None:
    """Names of files that are not UTF-8 come as lone surrogates; no database takes those, nor a NUL."""
    fence = world.running()
    job_store.record_event(world.db, fence, "evt_1", EventType.PARKED, text)
    job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "trainer_error", text)
    job = world.job(fence.job_id)
    assert job.status == "failed"
    for kept in (job.error_message, world.event(fence.job_id, "failed").message):
        assert "here" in kept or "\\" in kept
        assert "\0" not in kept
        kept.encode()


def test_writes_of_one_holder_at_once_number_their_events_without_gaps(world: World) -> None:
    fence = world.running()

    def tell(number: int) -> None:
        job_store.record_event(world.db, fence, f"evt_{number}", EventType.PARKED, str(number))

    assert at_once(*[lambda n=n: tell(n) for n in range(12)]) == [None] * 12
    told = job_store.job_events(world.db, fence.job_id, after=2)
    assert [event.sequence for event in told] == list(range(3, 15))
    assert sorted(int(event.message) for event in told) == list(range(12))
