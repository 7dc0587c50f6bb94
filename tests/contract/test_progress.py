"""What a running job reports: leases, steps and metrics, each row once (I3)."""

import math
from typing import Any

import pytest
from sqlalchemy import select, update

from models import job_store
from models.errors import LeaseLost, NotFound
from models.host import ProcessId, boot_id, pid_namespace
from models.job_state import EndCause, JobStatus
from models.job_store import Fence, Requests
from models.tables import jobs, step_metrics
from tests.contract.world import LEASE, SLOT, World, position, step_row
from worker.wire import finite


def lease_left(world: World, fence: Fence) -> float:
    with world.db.reading() as tx:
        left = select(jobs.c.lease_expires_at - world.db.lease_now()).where(jobs.c.id == fence.job_id)
        return float(tx.execute(left).scalar_one())


def test_a_renewal_prolongs_the_lease_from_now(world: World) -> None:
    fence = world.running(lease=2.0)
    assert job_store.renew(world.db, fence, 100.0) == Requests(cancel=False, pause=False)
    assert 40.0 < lease_left(world, fence) <= 100.0
    job_store.renew(world.db, fence, 30.0)
    assert lease_left(world, fence) <= 30.0


def test_a_lease_that_ran_out_is_renewed_while_nobody_took_the_job(world: World) -> None:
    fence = world.running(lease=-5.0)
    job_store.renew(world.db, fence, LEASE)
    assert world.expire() == []


def test_every_write_hears_what_users_asked_for(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.cancel(world.db, fence.job_id)
    job_store.pause(world.db, fence.job_id)
    both = Requests(cancel=True, pause=True)
    assert job_store.renew(world.db, fence, LEASE) == both
    assert job_store.record_progress(world.db, fence, position(1)) == both
    assert job_store.record_metrics(world.db, fence, [step_row(1)], position(1)) == both


def test_progress_is_shown(world: World) -> None:
    fence = world.running()
    job_store.record_progress(world.db, fence, job_store.Position("dataset", 30, 400, None, 0))
    job = world.job(fence.job_id)
    assert (job.phase, job.phase_done, job.phase_total, job.step) == ("dataset", 30, 400, 0)
    job_store.record_progress(world.db, fence, job_store.Position("training", 7, 100, 7, 1))
    job = world.job(fence.job_id)
    assert (job.phase, job.phase_done, job.step, job.epochs_done) == ("training", 7, 7, 1)


def test_until_a_trainer_says_where_it_begins_the_last_known_step_stays(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.record_progress(world.db, fence, position(40, epochs_done=1))
    fence = world.restart(fence).fence
    job_store.record_progress(world.db, fence, position(None, phase="starting"))
    assert (world.job(fence.job_id).step, world.job(fence.job_id).epochs_done) == (40, 1)


@pytest.mark.parametrize("number", [2**31, 2**40])
def test_counts_of_bytes_and_of_steps_may_be_large(world: World, number: int) -> None:
    """A checkpoint of two gigabytes reports its progress in bytes."""
    fence = world.running()
    job_store.record_progress(
        world.db, fence, job_store.Position("checkpoint", number, 2 * number, number, 0)
    )
    job_store.record_metrics(world.db, fence, [step_row(number)], position(number))
    world.commit(fence, number, val_loss=0.5)
    job = world.job(fence.job_id)
    assert (job.phase_done, job.step, job.committed_step) == (number, number, number)


# -- Preparation -------------------------------------------------------------------------------------


def test_the_first_preparation_fixes_the_numerics(world: World) -> None:
    fence = world.running()
    world.prepare(fence, numerics={"threads": 2})
    world.commit(fence, 10)
    job_store.record_progress(world.db, fence, position(17))
    fence = world.restart(fence, step=17).fence
    world.prepare(fence, step=10, from_checkpoint="ckpt_1", slot="cpu:another")
    job = world.job(fence.job_id)
    assert (job.numerics, job.numerics_slot, job.steps) == ({"threads": 2}, SLOT, 100)
    line = world.attempts(fence.job_id)[1]
    assert (line.from_checkpoint, line.steps_redone) == ("ckpt_1", 7)
    assert world.event(fence.job_id, "resume.started").data["steps_redone"] == 7


def test_a_preparation_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.record_progress(world.db, fence, position(17))
    fence = world.restart(fence, step=17).fence
    for _ in range(2):
        world.prepare(fence, step=0, inexact_reasons=["torch is another"])
    assert world.attempts(fence.job_id)[1].steps_redone == 17
    assert world.events(fence.job_id).count("resume.started") == 1
    assert world.events(fence.job_id).count("inexact") == 1


def test_a_reason_for_inexactness_stays_and_is_told_once(world: World) -> None:
    fence = world.running()
    world.prepare(fence, inexact_reasons=["another CPU"])
    fence = world.restart(fence).fence
    world.prepare(fence, inexact_reasons=["another CPU", "another torch"])
    job = world.job(fence.job_id)
    assert not job.exact
    assert job.inexact_reasons == ["another CPU", "another torch"]
    assert world.events(fence.job_id).count("inexact") == 2


def test_the_check_of_the_dataset_is_kept(world: World) -> None:
    fence = world.running()
    found = {"digest": "d", "classes": ["iris", "tulip"], "num_train": 30, "num_val": 8}
    job_store.dataset_checked(world.db, fence, "jobs/x/manifest.json", found)
    job = world.job(fence.job_id)
    assert (job.manifest_path, job.dataset) == ("jobs/x/manifest.json", found)
    assert world.event(fence.job_id, "dataset.checked").data == found


def test_a_check_whose_reply_was_lost_is_told_again_without_effect(world: World) -> None:
    fence = world.running()
    found = {"digest": "d", "classes": ["iris", "tulip"], "num_train": 30, "num_val": 8}
    job_store.dataset_checked(world.db, fence, "jobs/x/manifest.json", found)
    before = world.dump()
    job_store.dataset_checked(world.db, fence, "jobs/x/manifest.json", found)
    assert world.dump() == before


def test_the_trainer_is_remembered_beyond_the_lease(world: World) -> None:
    fence = world.running()
    job_store.trainer_started(world.db, fence, ProcessId(77, 123.25))
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Asked to stop.")
    job = world.job(fence.job_id)
    assert (job.trainer_pid, job.trainer_started_at) == (77, 123.25)
    assert (job.trainer_boot_id, job.trainer_pid_namespace) == (boot_id(), pid_namespace())
    assert world.attempts(fence.job_id)[0].trainer_pid == 77


def test_the_first_step_ends_a_recovery(world: World) -> None:
    fence = world.running()
    job_store.first_step(world.db, fence)
    restarted = job_store.restart_attempt(
        world.db, fence, EndCause.TRAINER_KILLED, "SIGKILL",
        device="cpu", step=None, detection_seconds=0.0, lease_seconds=60.0,
    )  # fmt: skip
    assert not isinstance(restarted, JobStatus)
    job_store.first_step(world.db, restarted.fence)
    first, second = world.attempts(fence.job_id)
    assert first.restart_seconds is None, "nothing was recovered from"
    assert second.first_step_at >= second.started_at
    assert second.restart_seconds == (second.first_step_at - first.ended_at).total_seconds() > 0


def test_a_pause_is_no_recovery(world: World) -> None:
    fence = world.running()
    job_store.pause(world.db, fence.job_id)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.")
    job_store.resume(world.db, fence.job_id)
    job_store.first_step(world.db, world.claimed().fence)
    assert world.attempts(fence.job_id)[1].restart_seconds is None


# -- Step metrics ------------------------------------------------------------------------------------


def steps(world: World, fence: Fence) -> dict[int, Any]:
    return {row.step: row for row in job_store.step_metrics(world.db, fence.job_id, limit=100_000)}


def test_a_float_keeps_every_bit(world: World) -> None:
    fence = world.running()
    losses = [0.1 + 0.2, 1e-300, 5e-324, 1.7976931348623157e308, math.pi]
    rows = [step_row(n, loss) for n, loss in enumerate(losses, start=1)]
    job_store.record_metrics(world.db, fence, rows, position(6))
    assert [row.loss.hex() for row in steps(world, fence).values()] == [loss.hex() for loss in losses]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_flagged(world: World, loss: float) -> None:
    fence = world.running()
    rows = [step_row(1), step_row(2) | {"loss": finite(loss)}]
    job_store.record_metrics(world.db, fence, rows, position(2))
    seen = steps(world, fence)
    assert (seen[1].loss, seen[1].is_finite) == (1.0, True)
    assert (seen[2].loss, seen[2].is_finite) == (None, False)


def test_a_replay_replaces(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.record_metrics(world.db, fence, [step_row(n) for n in range(1, 11)], position(10))
    fence = world.restart(fence).fence
    job_store.record_metrics(world.db, fence, [step_row(n) for n in range(6, 13)], position(12))
    seen = steps(world, fence)
    assert list(seen) == list(range(1, 13))
    assert [seen[n].attempt for n in (5, 6, 10, 12)] == [1, 2, 2, 2]
    assert "determinism.mismatch" not in world.events(fence.job_id)


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.5000000000000001), (None, 0.5), (0.5, None)])
def test_a_replay_that_differs_is_told(world: World, before: float | None, after: float | None) -> None:
    fence = world.running()
    rows = [step_row(n) for n in range(1, 4)]
    job_store.record_metrics(world.db, fence, [*rows, step_row(4) | {"loss": before}], position(4))
    fence = world.restart(fence).fence
    job_store.record_metrics(world.db, fence, [*rows, step_row(4) | {"loss": after}], position(4))
    event = world.event(fence.job_id, "determinism.mismatch")
    assert event.data == {"step": 4, "steps": 1}
    assert repr(before) in event.message and repr(after) in event.message
    assert steps(world, fence)[4].loss == after, "the rows belong to the weights that survive"
    for row in (world.job(fence.job_id), world.attempts(fence.job_id)[1]):
        assert (row.exact, row.inexact_reasons) == (False, ["what was done again gave another number"])
    assert world.attempts(fence.job_id)[0].exact is not False
    world.prepare(world.restart(fence).fence)
    assert world.job(fence.job_id).exact is False, "the job never forgets"


def test_a_batch_sealed_by_a_commit_is_compared_too(world: World) -> None:
    fence = world.running()
    job_store.record_metrics(world.db, fence, [step_row(1), step_row(2)], position(2))
    fence = world.restart(fence).fence
    world.commit(fence, 2, steps=[step_row(1), step_row(2, 7.0)])
    assert world.event(fence.job_id, "determinism.mismatch").data["step"] == 2


def test_a_job_that_is_not_exact_promises_no_equal_replay(world: World) -> None:
    fence = world.running()
    world.prepare(fence, inexact_reasons=["another CPU"])
    job_store.record_metrics(world.db, fence, [step_row(1, 0.5)], position(1))
    fence = world.restart(fence).fence
    job_store.record_metrics(world.db, fence, [step_row(1, 0.6)], position(1))
    assert "determinism.mismatch" not in world.events(fence.job_id)
    assert steps(world, fence)[1].loss == 0.6


def test_a_large_batch_is_one_write(world: World) -> None:
    fence = world.running()
    rows = [step_row(n) for n in range(1, 1502)]
    job_store.record_metrics(world.db, fence, rows, position(1501))
    job_store.record_metrics(world.db, fence, rows, position(1501))
    with world.db.reading() as tx:
        assert [row.step for row in tx.execute(select(step_metrics.c.step).order_by("step"))] == list(
            range(1, 1502)
        )


def test_pages_of_rows(world: World) -> None:
    fence = world.running()
    job_store.record_metrics(world.db, fence, [step_row(n) for n in range(1, 8)], position(7))
    page = job_store.step_metrics(world.db, fence.job_id, after=2, limit=3)
    assert [row.step for row in page] == [3, 4, 5]
    assert job_store.epoch_metrics(world.db, fence.job_id) == []
    with pytest.raises(NotFound):
        job_store.step_metrics(world.db, "job_nobodys")


def test_a_job_that_is_not_there_has_no_lease(world: World) -> None:
    with pytest.raises(LeaseLost):
        job_store.renew(world.db, Fence("job_none", 1), LEASE)
    fence = world.running()
    with world.db.writing() as tx:
        tx.execute(update(jobs).values(event_count=jobs.c.event_count))
    with pytest.raises(LeaseLost):
        job_store.finish(world.db, Fence("job_none", fence.attempt), "ab" * 32)
