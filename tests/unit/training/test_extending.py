"""More epochs for a job that ended: a schedule that starts anew, and new patience."""

from collections.abc import Callable

from tests.unit.training.jobs import Job, Recorded
from worker.messages import CheckpointWritten, Finished, Prepared, ResumeVerified, StepMetrics


def test_extended(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=2, scheduler="cosine")
    first = job.run()
    segments = [*job.task.segments, {"epochs": 1, "scheduler": "cosine"}]
    extended = job.after(first, segments=segments, verify=True)
    second = extended.run()
    verified = second.only(ResumeVerified)
    assert verified.equal and verified.recorded == verified.recomputed
    assert second.only(Prepared).epochs == 3 and second.only(Prepared).steps == 21
    rates = {row.step: row.learning_rate for message in second.all(StepMetrics) for row in message.rows}
    assert rates[15] == 0.001 and rates[21] < 0.0001
    # Verification must leave no trace.
    unverified = job.after(first, segments=segments).run()
    assert not unverified.all(ResumeVerified)
    assert Recorded.of(unverified) == Recorded.of(second)


def test_early_stopping_and_its_renewal(new_job: Callable[..., Job]) -> None:
    rule = {"patience": 1, "min_delta": 100.0}  # nothing improves by so much
    job = new_job(epochs=5, early_stopping=rule, checkpoint_every={"epochs": 4})
    first = job.run()
    assert first.only(Finished).stopped_early
    assert [metrics.epoch for metrics in first.epochs] == [1, 2]
    assert [written.epoch for written in first.all(CheckpointWritten)] == [2]
    assert job.after(first).run().only(Finished) == first.only(Finished)
    # As the job store leaves them: what was planned beyond the early stop is given up.
    segments = [{"epochs": 2, "scheduler": "constant", "planned_epochs": 5}]
    extended = job.after(first, segments=[*segments, {"epochs": 1, "scheduler": "constant"}]).run()
    assert [metrics.epoch for metrics in extended.epochs] == [3]


def test_the_renewal_comes_with_the_segment_whichever_checkpoint_it_is_resumed_from(
    new_job: Callable[..., Job],
) -> None:
    """Each epoch but the first is one without progress; the counter stands at 1 before the last."""
    rule = {"patience": 2, "min_delta": 100.0}
    job = new_job(epochs=9, early_stopping=rule, checkpoint_every={"epochs": 2})
    first = job.run()
    assert [metrics.epoch for metrics in first.epochs] == [1, 2, 3]
    segments = [{"epochs": 3, "scheduler": "constant", "planned_epochs": 9}]
    extended = job.after(first, segments=[*segments, {"epochs": 9, "scheduler": "constant"}])
    untouched = extended.run()
    assert [metrics.epoch for metrics in untouched.epochs] == [4, 5]
    extended.file(extended.task.checkpoints[0]).unlink()
    fallen_back = extended.run()
    assert [metrics.epoch for metrics in fallen_back.epochs] == [3, 4, 5]
    assert [written.epoch for written in fallen_back.all(CheckpointWritten)] == [3, 4, 5]
    assert fallen_back.only(Finished) == untouched.only(Finished)
