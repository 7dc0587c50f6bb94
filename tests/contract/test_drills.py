"""A drill is recorded before it is done, hits one attempt, spends nothing; its report is the ledger's."""

from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from models import job_store
from models.errors import LeaseLost, NotFound, WrongState
from models.job_state import EndCause, Fault
from models.job_store import Drill, Fence
from models.job_store.endings import MAX_LOSSES
from models.job_store.restarts import Restarted
from models.tables import attempts, drills
from tests.contract.world import LEASE, World, at_once, position

DRILL_ENDS = [("kill_trainer", EndCause.TRAINER_KILLED), ("stall", EndCause.STALLED)]


def carried_out(world: World, fence: Fence, fault: str = "kill_trainer") -> str:
    """A drill that this attempt is about to suffer; its id."""
    asked = job_store.request_drill(world.db, fence.job_id, Fault(fault))
    assert job_store.carry_out_drill(world.db, fence, asked.id) == fault
    return asked.id


def report(world: World, job_id: str) -> Drill:
    [found] = job_store.job_drills(world.db, job_id)
    return found


def test_the_worker_hears_of_it_with_every_write(world: World) -> None:
    fence = world.running()
    drill = job_store.request_drill(world.db, fence.job_id, Fault.STALL)
    assert (drill.status, drill.attempt, drill.recovered) == ("requested", None, False)
    assert job_store.renew(world.db, fence, LEASE).drill == drill.id
    assert job_store.record_progress(world.db, fence, position()).drill == drill.id
    assert job_store.record_metrics(world.db, fence, [], position()).drill == drill.id
    committed = job_store.commit_checkpoint(
        world.db, fence, world.checkpoint(5), step_rows=[], epoch_rows=[], epochs_done=0, keep_last=2
    )
    assert committed.requests.drill == drill.id
    assert job_store.carry_out_drill(world.db, fence, drill.id) == Fault.STALL
    assert job_store.renew(world.db, fence, LEASE).drill is None


def test_after_a_lost_reply_it_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    drill_id = carried_out(world, fence)
    before = world.dump()
    assert job_store.carry_out_drill(world.db, fence, drill_id) == Fault.KILL_TRAINER
    assert world.dump() == before


def test_it_hits_one_attempt_only(world: World) -> None:
    """An answer that was read before the restart may tell the next attempt of it once more."""
    fence = world.running()
    drill_id = carried_out(world, fence)
    again = world.restart(fence).fence
    assert job_store.carry_out_drill(world.db, again, drill_id) is None
    assert [line.drill for line in world.attempts(fence.job_id)] == [drill_id, None]


def test_only_the_holder_carries_it_out(world: World) -> None:
    fence = world.running()
    asked = job_store.request_drill(world.db, fence.job_id, Fault.KILL_TRAINER)
    world.lose(fence.job_id)
    before = world.dump()
    with pytest.raises(LeaseLost):
        job_store.carry_out_drill(world.db, fence, asked.id)
    with pytest.raises(LeaseLost):
        job_store.choose_checkpoint_to_damage(world.db, fence, asked.id)
    assert world.dump() == before


# -- Budgets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_failures", [1, 2])
def test_a_drill_spends_no_failure(world: World, max_failures: int) -> None:
    fence = world.running(fault_tolerance={"max_failures": max_failures})
    for _ in range(4):
        carried_out(world, fence)
        after = world.restart(fence)
        assert isinstance(after, Restarted) and after.job.failures == 0
        fence = after.fence
    assert world.job(fence.job_id).recoveries == 4


def test_nor_does_it_forgive_one(world: World) -> None:
    fence = world.running(fault_tolerance={"max_failures": 2})
    fence = world.restart(fence).fence
    carried_out(world, fence)
    fence = world.restart(fence).fence
    assert world.job(fence.job_id).failures == 1
    assert world.restart(fence) == "failed"


def test_a_worker_that_killed_itself_in_a_drill_is_no_loss(world: World) -> None:
    job_id = world.submit()
    for _ in range(MAX_LOSSES + 1):
        carried_out(world, world.claimed().fence, "kill_worker")
        assert world.lose(job_id) == [job_id]
    job = world.job(job_id)
    assert (job.status, job.losses, job.recoveries) == ("queued", 0, MAX_LOSSES + 1)


def test_one_that_was_not_carried_out_excuses_nothing(world: World) -> None:
    fence = world.running()
    job_store.request_drill(world.db, fence.job_id, Fault.KILL_WORKER)
    world.lose(fence.job_id)
    assert world.job(fence.job_id).losses == 1
    assert report(world, fence.job_id).status == "dropped"
    again = world.claimed().fence
    assert job_store.renew(world.db, again, LEASE).drill is None


def test_drills_are_no_failures_of_the_fleet(world: World) -> None:
    fence = world.running()
    quiet = job_store.seconds_between_failures(world.db)
    carried_out(world, fence)
    fence = world.restart(fence).fence
    assert job_store.seconds_between_failures(world.db) >= quiet
    world.restart(fence)
    assert job_store.seconds_between_failures(world.db) < 0.6 * quiet


# -- The report --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "cause"), DRILL_ENDS)
def test_the_report_of_a_recovery(world: World, fault: str, cause: EndCause) -> None:
    fence = world.running()
    world.prepare(fence)
    world.commit(fence, 10)
    job_store.record_progress(world.db, fence, position(17))
    drill_id = carried_out(world, fence, fault)
    assert report(world, fence.job_id).status == "recovering"
    after = job_store.restart_attempt(
        world.db, fence, cause, "Gone.", device="cpu", step=19, detection_seconds=0.1, lease_seconds=LEASE
    )
    assert isinstance(after, Restarted)
    seen = report(world, fence.job_id)
    assert (seen.status, seen.attempt, seen.running_again_seconds) == ("recovering", 1, None)
    assert seen.detected_seconds is not None and 0.0 <= seen.detected_seconds < 30.0
    world.prepare(after.fence, 10, from_checkpoint="ckpt_1")
    job_store.first_step(world.db, after.fence)
    seen = report(world, fence.job_id)
    assert (seen.id, seen.status, seen.recovered, seen.steps_redone, seen.exact) == (
        drill_id, "recovered", True, 9, True,
    )  # fmt: skip
    assert seen.running_again_seconds is not None and seen.detected_seconds is not None
    assert seen.detected_seconds <= seen.running_again_seconds < 60.0
    assert world.events(fence.job_id).count("drill.carried_out") == 1


def test_a_recovery_that_needs_several_tries_and_other_numerics(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    world.commit(fence, 10)
    carried_out(world, fence)
    second = world.restart(fence, step=15).fence
    world.prepare(second, 10, from_checkpoint="ckpt_1", inexact_reasons=["Another CPU."])
    third = world.restart(second).fence
    world.prepare(third, 10, from_checkpoint="ckpt_1")
    assert report(world, fence.job_id).status == "recovering"
    job_store.first_step(world.db, third)
    seen = report(world, fence.job_id)
    assert (seen.status, seen.steps_redone, seen.exact) == ("recovered", 5, False)


def test_a_job_that_was_nearly_done_recovers_by_finishing(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    world.commit(fence, 100, epoch=4, val_loss=0.5)
    carried_out(world, fence)
    after = world.restart(fence).fence
    world.prepare(after, 100, from_checkpoint="ckpt_1", epochs_done=4)
    job_store.finish(world.db, after, "ab" * 32)
    assert report(world, fence.job_id).status == "recovered"


@pytest.mark.parametrize("ending", ["finish", "release", "cancel"])
def test_an_attempt_that_ends_in_another_way_recovers_from_nothing(world: World, ending: str) -> None:
    fence = world.running()
    carried_out(world, fence)
    match ending:
        case "finish":
            job_store.finish(world.db, fence, "ab" * 32)
        case "release":
            job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
            job_store.first_step(world.db, world.claimed().fence)
        case "cancel":
            job_store.cancel(world.db, fence.job_id)
            world.restart(fence)
    assert report(world, fence.job_id).status == "not_recovered"
    assert not report(world, fence.job_id).recovered


def test_the_newest_committed_checkpoint_is_the_one_to_damage(world: World) -> None:
    fence = world.running()
    world.commit(fence, 10)
    newest = world.commit(fence, 20)
    drill_id = carried_out(world, fence, "corrupt_checkpoint")
    chosen: Any = job_store.choose_checkpoint_to_damage(world.db, fence, drill_id)
    assert chosen.id == report(world, fence.job_id).checkpoint_id == newest


# -- Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["queued", "paused", "succeeded", "failed", "cancelled", "running+cancel", "running+pause"]
)
def test_only_a_job_that_runs_on_can_be_drilled(world: World, state: str) -> None:
    job_id = world.job_in(state)
    before = world.dump()
    with pytest.raises(WrongState):
        job_store.request_drill(world.db, job_id, Fault.KILL_TRAINER)
    assert world.dump() == before


def test_a_job_that_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        job_store.request_drill(world.db, "job_none", Fault.KILL_TRAINER)
    with pytest.raises(NotFound):
        job_store.job_drills(world.db, "job_none")


def test_a_checkpoint_is_needed_to_damage_one(world: World) -> None:
    fence = world.running()
    with pytest.raises(WrongState, match="no committed checkpoint"):
        job_store.request_drill(world.db, fence.job_id, Fault.CORRUPT_CHECKPOINT)
    world.commit(fence, 10)
    job_store.request_drill(world.db, fence.job_id, Fault.CORRUPT_CHECKPOINT)


def test_one_drill_of_a_job_at_a_time(world: World) -> None:
    fence = world.running()
    answers = at_once(
        *[lambda: job_store.request_drill(world.db, fence.job_id, Fault.KILL_TRAINER) for _ in range(6)]
    )
    [first] = [answer for answer in answers if isinstance(answer, Drill)]
    assert sum(isinstance(answer, WrongState) for answer in answers) == 5
    job_store.carry_out_drill(world.db, fence, first.id)
    with pytest.raises(WrongState):
        job_store.request_drill(world.db, fence.job_id, Fault.KILL_TRAINER)
    again = world.restart(fence).fence
    second = job_store.request_drill(world.db, fence.job_id, Fault.STALL)
    assert [drill.id for drill in job_store.job_drills(world.db, again.job_id)] == [first.id, second.id]
    assert [drill.id for drill in job_store.job_drills(world.db, again.job_id, after=first.id)] == [second.id]


@pytest.mark.parametrize(
    "values",
    [{"fault": "coffee"}, {"attempt": 1}, {"job_id": "job_none"}],
    ids=lambda values: next(iter(values)),
)
def test_impossible_drills_are_refused(world: World, values: dict[str, Any]) -> None:
    job_id = world.job_in("running")
    row = {"id": "drl_1", "job_id": job_id, "fault": "stall", "requested_at": world.job(job_id).created_at}
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(insert(drills).values(**(row | values)))


def test_without_the_mark_on_the_attempt_it_would_have_counted(world: World) -> None:
    """What spares the budget is the row, so it must be there before the fault."""
    fence = world.running()
    carried_out(world, fence, "kill_worker")
    with world.db.writing() as tx:
        assert tx.execute(select(attempts.c.drill)).scalar_one() is not None
        tx.execute(update(attempts).values(drill=None))
    world.lose(fence.job_id)
    assert world.job(fence.job_id).losses == 1
