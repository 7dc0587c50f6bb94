"""An interrupted run ends as an undisturbed one: weights, optimizer state and metrics, bit for bit."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit.training.jobs import Job, Recorded, Trainer
from worker.messages import (
    Cancel,
    CheckpointRejected,
    CheckpointWritten,
    Failed,
    Finished,
    Prepared,
    Progress,
    ResumeVerified,
    StepDone,
    StepMetrics,
    Stop,
    Stopped,
)

#: Everything random at once: dropout, stochastic depth, augmentation, with BatchNorm and momentum.
EVERYTHING = {
    "arch": "efficientnet_b0",
    "augment": "trivial",
    "optimizer": "adamw",
    "scheduler": "cosine",
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
}


def last_checkpoint(job: Job, trainer: Trainer) -> dict[str, Any]:
    return torch.load(job.file(trainer.all(CheckpointWritten)[-1]), weights_only=True)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in leaves(value, f"{path}/{key}").items()}
    if isinstance(tree, list):
        return leaves(dict(enumerate(tree)), path)
    return {path: tree}


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Every tensor and number of two checkpoints, times apart."""
    first, second = leaves(one), leaves(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.stride() == second[name].stride(), name
            assert torch.equal(value, second[name]), name
        elif name != "/sums/seconds":
            assert value == second[name], name


def stop_after(trainer: Trainer, step: int) -> None:
    trainer.wait_for(lambda message: isinstance(message, StepDone) and message.step == step)
    trainer.send(Stop())
    trainer.read_to_end()
    trainer.only(Stopped)


@pytest.mark.parametrize("loading_workers", [0, 2])
def test_stopped_within_an_epoch(new_job: Callable[..., Job], loading_workers: int) -> None:
    untouched_job = new_job(**EVERYTHING)
    untouched = untouched_job.run()

    job = new_job(**EVERYTHING, loading_workers=loading_workers)
    first = job.attempt()
    stop_after(first, 3)
    left = first.only(CheckpointWritten)
    assert left.epoch == 1 and 3 <= left.step < 7 and left.val_loss is None
    second_job = job.after(first)
    second = second_job.attempt()
    stop_after(second, 9)
    assert second.all(Prepared)[0].step == left.step
    third_job = second_job.after(second)
    third = third_job.run()

    assert Recorded.of(first, second, third) == Recorded.of(untouched)
    assert set(Recorded.of(untouched).steps) == set(range(1, 15))
    assert_same_state(last_checkpoint(third_job, third), last_checkpoint(untouched_job, untouched))


def test_killed_and_resumed_with_other_loading_workers(new_job: Callable[..., Job]) -> None:
    untouched = new_job(epochs=3, optimizer="sgd").run()
    job = new_job(epochs=3, optimizer="sgd", loading_workers=2)
    first = job.attempt()
    first.wait_for(CheckpointWritten)
    first.wait_for(lambda message: isinstance(message, StepDone) and message.step >= 11)
    first.kill()
    first.read_to_end()
    second = (job := job.after(first, slot=new_job().task.slot)).run()
    assert second.only(Prepared).step in {7, 14}
    assert second.only(Prepared).inexact_reasons == []
    assert Recorded.of(first, second) == Recorded.of(untouched)


def test_another_seed_gives_other_weights(new_job: Callable[..., Job]) -> None:
    one, same, other = new_job(epochs=1).run(), new_job(epochs=1).run(), new_job(epochs=1, seed=8).run()
    assert one.only(Finished) == same.only(Finished)
    assert one.only(Finished) != other.only(Finished)


def test_stopped_while_validating(new_job: Callable[..., Job]) -> None:
    job = new_job()
    first = job.attempt()
    first.wait_for(lambda message: isinstance(message, Progress) and message.phase == "validation")
    first.send(Stop())
    first.read_to_end()
    second = job.after(first).run()
    assert Recorded.of(first, second) == Recorded.of(new_job().run())


def test_resumed_with_every_epoch_done(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=1)
    first = job.run()
    again = job.after(first).run()
    assert again.only(Finished) == first.only(Finished)
    assert not again.all(StepDone) and not again.all(CheckpointWritten)


def test_cancelled_leaves_no_checkpoint(new_job: Callable[..., Job]) -> None:
    trainer = new_job(epochs=50).attempt()
    trainer.wait_for(StepDone)
    trainer.send(Cancel())
    trainer.read_to_end()
    trainer.only(Stopped)
    assert not trainer.all(CheckpointWritten)


def test_stopped_before_the_first_step_leaves_no_checkpoint(new_job: Callable[..., Job]) -> None:
    trainer = new_job().attempt()
    trainer.send(Stop())
    trainer.read_to_end()
    trainer.only(Stopped)
    assert not trainer.all(StepDone) and not trainer.all(CheckpointWritten)


def test_a_validation_loss_that_does_not_come_back_makes_the_attempt_inexact(
    new_job: Callable[..., Job],
) -> None:
    job = new_job(epochs=1)
    after = job.after(job.run(), verify=True)
    [ref] = after.task.checkpoints
    assert ref.val_loss is not None
    other = replace(ref, val_loss=math.nextafter(ref.val_loss, 0.0))
    trainer = replace(after, task=replace(after.task, checkpoints=[other])).run()
    verified = trainer.only(ResumeVerified)
    assert not verified.equal and verified.recomputed == ref.val_loss
    assert trainer.only(Prepared).inexact_reasons == [
        f"validation loss {other.val_loss!r} → {ref.val_loss!r}"
    ]


def test_checkpoints_between_epochs(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=3, checkpoint_every={"epochs": 2})
    trainer = job.run()
    assert [metrics.epoch for metrics in trainer.epochs] == [1, 2, 3]
    assert [written.epoch for written in trainer.all(CheckpointWritten)] == [2, 3]
    stopped = (again := new_job(epochs=3, checkpoint_every={"epochs": 2})).attempt()
    stopped.wait_for(lambda message: isinstance(message, StepDone) and message.epoch == 2)
    stopped.send(Stop())
    stopped.read_to_end()
    assert Recorded.of(stopped, again.after(stopped).run()) == Recorded.of(trainer)


def test_checkpoints_by_time(new_job: Callable[..., Job]) -> None:
    trainer = new_job(
        arch="efficientnet_b0", epochs=10, checkpoint_every={"seconds": 1.0, "epochs": 10}
    ).run()
    assert any(written.val_loss is None for written in trainer.all(CheckpointWritten))


def test_no_more_work_is_at_risk_than_an_interval_and_the_write_in_flight(
    new_job: Callable[..., Job],
) -> None:
    """I10, in units of this run's own steps, so that a slow machine changes nothing."""
    interval = 1.0
    rule = {"seconds": interval, "epochs": 10_000}
    trainer = new_job(arch="efficientnet_b0", epochs=15, checkpoint_every=rule).run()
    told = list(zip(trainer.arrivals, trainer.messages, strict=True))
    steps = [at for at, message in told if isinstance(message, StepDone)]
    slowest = max(after - before for before, after in itertools.pairwise(steps))  # validation included
    written = [(at, message) for at, message in told if isinstance(message, CheckpointWritten)]
    write = max(message.write_seconds for _, message in written)
    snapshots = [steps[0], *(at - message.write_seconds for at, message in written)]
    assert len(snapshots) > 2
    for before, after in itertools.pairwise(snapshots):
        assert after - before <= interval + write + 2 * slowest


def test_every_epoch_is_sealed_in_order(new_job: Callable[..., Job]) -> None:
    """Training goes on while a checkpoint is written, but what it seals is told before it."""
    trainer = new_job(epochs=3).run()
    told = 0
    for message in trainer.messages:
        if isinstance(message, StepMetrics):
            told = message.rows[-1].step
        if isinstance(message, CheckpointWritten):
            assert told >= message.step
    written = trainer.all(CheckpointWritten)
    assert [[epoch.epoch for epoch in one.epochs] for one in written] == [[1], [2], [3]]
    assert [(one.epochs_done, one.step) for one in written] == [(1, 7), (2, 14), (3, 21)]
    steps = [row.step for message in trainer.all(StepMetrics) for row in message.rows]
    assert steps == list(range(1, 22)) == [message.step for message in trainer.all(StepDone)]


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_are_passed_over(new_job: Callable[..., Job], damaged: int) -> None:
    job = new_job(epochs=2)
    first = job.run()
    resumed = job.after(first)
    for ref in resumed.task.checkpoints[:damaged]:
        file = job.file(ref)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    second = resumed.run()
    rejected = [message.checkpoint_id for message in second.all(CheckpointRejected)]
    assert rejected == [ref.id for ref in resumed.task.checkpoints[:damaged]]
    expected = resumed.task.checkpoints[1].id if damaged == 1 else None
    assert second.only(Prepared).from_checkpoint == expected
    assert second.only(Finished) == first.only(Finished)


def test_where_something_changed_it_is_verified_unasked(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=1)
    first = job.run()
    second = job.after(first, slot=replace(job.task.slot, kind="other")).run()
    assert second.only(Prepared).inexact_reasons == ["device and instruction set cpu:test → cpu:other"]
    assert second.only(ResumeVerified).equal


def test_precision_and_threads_of_the_first_attempt_stay(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=1, precision="bfloat16", threads=2)
    first = job.run()
    numerics = first.only(Prepared).numerics
    assert numerics["precision"] == "bfloat16" and numerics["threads"] == 2
    slot = type(job.task.slot)("cpu", threads=1, kind="other")
    second = job.after(first, slot=slot, checkpoints=[]).run()
    assert second.only(Prepared).numerics == numerics
    assert second.only(Prepared).inexact_reasons == ["device and instruction set cpu:test → cpu:other"]
    assert second.only(Finished) == first.only(Finished)


def test_steps_are_numbered_over_the_whole_job(new_job: Callable[..., Job]) -> None:
    trainer = new_job(epochs=2).run()
    pairs = [(message.epoch, message.step) for message in trainer.all(StepDone)]
    assert pairs == list(zip([1] * 7 + [2] * 7, itertools.count(1), strict=False))


def test_a_loss_without_bounds_fails_the_job_and_spares_the_last_checkpoint(
    new_job: Callable[..., Job],
) -> None:
    trainer = new_job(lr=100.0, optimizer="sgd", epochs=5).run()
    assert trainer.only(Failed).code == "non_finite_loss" and not trainer.only(Failed).retryable
    for written in trainer.all(CheckpointWritten):
        assert math.isfinite(written.val_loss)
