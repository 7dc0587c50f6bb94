"""What users ask, in every state: the effect, or why there is none (I7)."""

import pytest
from pydantic import ValidationError

from models import job_store
from models.errors import NotFound, WrongState
from models.job_state import EndCause
from models.job_store.requests import Answer, Effect
from tests.contract.world import WEIGHTS, World

STATES = [
    "queued", "running", "running+cancel", "running+pause", "paused", "succeeded", "failed", "cancelled",
]  # fmt: skip
DONE, ASKED, REFUSED = "done", "asked", "refused"

#: For each request: what happens in each of STATES, as (effect, status after it, last event).
TABLE: dict[str, list[tuple[str, str, str]]] = {
    "cancel": [
        (DONE, "cancelled", "cancelled"),
        (ASKED, "running", "cancel_requested"),
        (ASKED, "running", "cancel_requested"),
        (ASKED, "running", "cancel_requested"),
        (DONE, "cancelled", "cancelled"),
        (REFUSED, "succeeded", "succeeded"),
        (REFUSED, "failed", "failed"),
        (DONE, "cancelled", "cancelled"),
    ],
    "pause": [
        (DONE, "paused", "paused"),
        (ASKED, "running", "pause_requested"),
        (ASKED, "running", "pause_requested"),
        (ASKED, "running", "pause_requested"),
        (DONE, "paused", "paused"),
        (REFUSED, "succeeded", "succeeded"),
        (REFUSED, "failed", "failed"),
        (REFUSED, "cancelled", "cancelled"),
    ],
    "resume": [
        (REFUSED, "queued", "created"),
        (REFUSED, "running", "claimed"),
        (REFUSED, "running", "cancel_requested"),
        (DONE, "running", "resumed"),
        (DONE, "queued", "resumed"),
        (REFUSED, "succeeded", "succeeded"),
        (REFUSED, "failed", "failed"),
        (REFUSED, "cancelled", "cancelled"),
    ],
    "retry": [
        (REFUSED, "queued", "created"),
        (REFUSED, "running", "claimed"),
        (REFUSED, "running", "cancel_requested"),
        (REFUSED, "running", "pause_requested"),
        (REFUSED, "paused", "paused"),
        (REFUSED, "succeeded", "succeeded"),
        (DONE, "queued", "retried"),
        (DONE, "queued", "retried"),
    ],
    "extend": [
        (REFUSED, "queued", "created"),
        (REFUSED, "running", "claimed"),
        (REFUSED, "running", "cancel_requested"),
        (REFUSED, "running", "pause_requested"),
        (REFUSED, "paused", "paused"),
        (DONE, "queued", "extended"),
        (REFUSED, "failed", "failed"),
        (REFUSED, "cancelled", "cancelled"),
    ],
}


def ask(world: World, request: str, job_id: str) -> Answer:
    if request == "extend":
        return job_store.extend(world.db, job_id, 2)
    answer: Answer = getattr(job_store, request)(world.db, job_id)
    return answer


@pytest.mark.parametrize(
    ("request_", "state", "expected"),
    [
        pytest.param(request, state, outcome, id=f"{request}-{state}")
        for request, outcomes in TABLE.items()
        for state, outcome in zip(STATES, outcomes, strict=True)
    ],
)
def test_every_request_in_every_state(
    world: World, request_: str, state: str, expected: tuple[str, str, str]
) -> None:
    effect, status, event = expected
    job_id = world.job_in(state)
    before = world.dump()
    if effect == REFUSED:
        with pytest.raises(WrongState, match=state.partition("+")[0]):
            ask(world, request_, job_id)
        assert world.dump() == before, "a refusal changes nothing"
    else:
        answer = ask(world, request_, job_id)
        assert answer.effect == (Effect.DONE if effect == DONE else Effect.REQUESTED)
        assert answer.job == world.job(job_id), "the answer shows the job as it is now"
    job = world.job(job_id)
    assert (job.status, world.events(job_id)[-1]) == (status, event)


@pytest.mark.parametrize("request_", TABLE)
def test_a_job_that_is_not_there(world: World, request_: str) -> None:
    with pytest.raises(NotFound):
        ask(world, request_, "job_none")


@pytest.mark.parametrize(
    ("request_", "state"),
    [("cancel", "queued"), ("cancel", "running"), ("cancel", "paused"), ("pause", "queued"),
     ("pause", "running")],
)  # fmt: skip
def test_asking_again_changes_nothing(world: World, request_: str, state: str) -> None:
    job_id = world.job_in(state)
    first = ask(world, request_, job_id)
    before = world.dump()
    second = ask(world, request_, job_id)
    assert second.effect == first.effect
    assert world.dump() == before


def test_a_cancel_overrides_a_pause_and_not_the_other_way(world: World) -> None:
    fence = world.running()
    job_store.cancel(world.db, fence.job_id)
    job_store.pause(world.db, fence.job_id)
    with pytest.raises(WrongState):
        job_store.retry(world.db, fence.job_id)
    job_store.resume(world.db, fence.job_id)  # takes back the pause alone
    assert job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.") == "cancelled"


def test_time_spent_paused_adds_up(world: World) -> None:
    job_id = world.submit()
    for _ in range(2):
        job_store.pause(world.db, job_id)
        assert world.job(job_id).paused_at is not None
        job_store.resume(world.db, job_id)
    job_store.pause(world.db, job_id)
    job_store.cancel(world.db, job_id)
    job = world.job(job_id)
    assert job.paused_at is None
    assert 0.0 < job.paused_seconds < 60.0


def test_a_resumed_job_verifies_its_checkpoint_first(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    checkpoint = world.commit(fence, 10)
    job_store.pause(world.db, fence.job_id)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.")
    job_store.resume(world.db, fence.job_id)
    claim = world.claimed()
    assert claim.job.verify_next
    assert [row.id for row in claim.checkpoints] == [checkpoint]
    world.prepare(claim.fence, step=10, from_checkpoint=checkpoint)
    assert not world.job(fence.job_id).verify_next, "once"


def test_a_pause_taken_back_before_its_time_leaves_the_job_running(world: World) -> None:
    fence = world.running()
    job_store.pause(world.db, fence.job_id)
    job_store.resume(world.db, fence.job_id)
    assert not job_store.renew(world.db, fence, 15.0).pause
    assert job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.") == "queued"


def test_a_retry_has_fresh_budgets_and_the_last_checkpoint(world: World) -> None:
    fence = world.running(fault_tolerance={"max_failures": 2})
    checkpoint = world.commit(fence, 10)
    fence = world.restart(fence).fence
    world.restart(fence)
    assert world.job(fence.job_id).status == "failed"
    job_store.retry(world.db, fence.job_id)
    job = world.job(fence.job_id)
    assert (job.failures, job.losses, job.error_code, job.error_message, job.finished_at) == (
        0, 0, None, None, None,
    )  # fmt: skip
    claim = world.claimed()
    assert (claim.fence.attempt, [row.id for row in claim.checkpoints]) == (3, [checkpoint])
    assert claim.job.spec == job.spec


# -- Extend ------------------------------------------------------------------------------------------


def succeeded(world: World, *, epochs: int, planned: int, **hyperparameters: object) -> str:
    fence = world.running(hyperparameters={"epochs": planned, **hyperparameters})
    world.prepare(fence)
    world.commit(fence, 10 * epochs, epoch=epochs, val_loss=0.5)
    job_store.finish(world.db, fence, WEIGHTS, stopped_early=epochs < planned)
    return fence.job_id


def test_an_extension_is_a_segment_of_its_own(world: World) -> None:
    job_id = succeeded(world, epochs=4, planned=4, scheduler="cosine")
    job_store.extend(world.db, job_id, 3)
    job = world.job(job_id)
    assert [(s["epochs"], s["scheduler"]) for s in job.segments] == [(4, "cosine"), (3, "cosine")]
    assert (job.epochs, job.epochs_done, job.steps, job.weights_sha256) == (7, 4, None, None)
    assert job.verify_next and job.finished_at is None
    job_store.pause(world.db, job_id)
    assert job.spec["hyperparameters"]["epochs"] == 4, "the spec stays what was submitted"


def test_an_extension_may_have_another_schedule(world: World) -> None:
    job_id = succeeded(world, epochs=2, planned=2)
    job_store.extend(world.db, job_id, 1, "cosine")
    assert [s["scheduler"] for s in world.job(job_id).segments] == ["constant", "cosine"]


def test_after_an_early_stop_the_planned_rest_is_given_up(world: World) -> None:
    job_id = succeeded(world, epochs=3, planned=10, scheduler="cosine")
    job_store.extend(world.db, job_id, 2)
    job = world.job(job_id)
    first, second = job.segments
    assert (first["epochs"], first["planned_epochs"]) == (3, 10), "replays see the rates as planned"
    assert (second["epochs"], second["planned_epochs"], job.epochs) == (2, None, 5)


def test_extensions_follow_one_another(world: World) -> None:
    job_id = succeeded(world, epochs=2, planned=2)
    for number in range(1, 4):
        job_store.extend(world.db, job_id, 1)
        fence = world.claimed().fence
        world.prepare(fence, step=10 * (1 + number))
        world.commit(fence, 10 * (2 + number), epoch=2 + number, val_loss=0.5)
        job_store.finish(world.db, fence, WEIGHTS)
    job = world.job(job_id)
    assert [s["epochs"] for s in job.segments] == [2, 1, 1, 1]
    assert (job.epochs, job.attempt) == (5, 4)


@pytest.mark.parametrize("epochs", [0, -1, 10_001, True, "2"])
def test_an_extension_has_limits(world: World, epochs: int) -> None:
    job_id = succeeded(world, epochs=1, planned=1)
    before = world.dump()
    with pytest.raises(ValidationError):
        job_store.extend(world.db, job_id, epochs)
    assert world.dump() == before
