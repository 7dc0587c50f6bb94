"""The story of one trainer process: prepare, resume, then epochs of steps, validation and checkpoint.

Everything that it computes is a function of the last checkpoint and (seed, epoch, step, sample). So it may
be killed at any instruction, and the next one ends with the same weights to the last bit.
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from models.errors import NonFiniteLoss
from worker.messages import EpochMetrics, Finished, Prepared, ResumeVerified, StepDone, Task
from worker.process_guard import print_stacks_on_request
from worker.training.cadence import Cadence
from worker.training.data import UNAUGMENTED, Batch, cut_into_batches
from worker.training.fingerprint import differences
from worker.training.metering import Meter
from worker.training.outcome import outcome_of
from worker.training.preparation import prepare
from worker.training.randomness import order
from worker.training.room import await_room
from worker.training.session import Session, StopRequested
from worker.training.weights_hash import weights_sha256
from worker.training.writer import CheckpointWriter, Cost, Draft

EXIT_DONE = 0


def run(task: Task, inbox_fd: int, outbox_fd: int) -> NoReturn:
    """Train until the job's last epoch, a request to leave, or an error; say which; leave the process."""
    print_stacks_on_request()
    session = Session(inbox_fd, outbox_fd, task.park_after_seconds, task.lease_confirmed_at)
    session.start()
    session.send(outcome_of(lambda: Trainer(task, session).train()))
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's farewell: idle thread pools and loading workers would only delay it.
    os._exit(EXIT_DONE)


class Trainer:
    """One attempt at one job."""

    def __init__(self, task: Task, session: Session) -> None:
        self.task, self.session = task, session
        attempt = self.attempt = prepare(task, session)
        self.spec, self.plan = attempt.spec, attempt.plan
        self.learner, self.state = attempt.learner, attempt.state
        self.meter = Meter(session, self.state)
        self.unsaved = False  #: whether the state is ahead of the last checkpoint
        self.unsealed: list[EpochMetrics] = []  #: of epochs that no checkpoint holds yet
        self.cadence = Cadence(
            self.spec.fault_tolerance.checkpoint_every, task.seconds_between_failures, time.monotonic()
        )
        self.writer = CheckpointWriter(
            session,
            attempt.storage,
            task.job_id,
            task.attempt,
            patience_seconds=task.store_patience_seconds,
            frozen=attempt.frozen,
            frozen_tensors=self.learner.frozen_tensors,
        )

    def train(self) -> Finished:
        """Raises TrainingError, StopRequested (after a checkpoint) and CancelRequested (without one)."""
        reasons = differences(self.task.fingerprint, self.attempt.fingerprint)
        if self.task.verify or reasons:
            reasons = self.verify(reasons)
        self.announce(reasons)
        await_room(self.attempt, self.session, self.task.store_patience_seconds)
        try:
            self.train_epochs()
        except NonFiniteLoss:
            # A rollback goes to the last epoch's end, whose file may still be on its way.
            self.writer.wait()
            raise
        self.writer.wait()
        return Finished(self.hash_weights(), stopped_early=self.state.epochs_done < self.plan.epochs)

    def train_epochs(self) -> None:
        """All that are left. A stop is answered by a checkpoint, unless the loss has no bounds there."""
        try:
            while self.state.epochs_done < self.plan.epochs and not self.state.patience.exhausted:
                self.train_epoch()
                self.end_epoch()
        except StopRequested:
            if self.unsaved:
                self.start_checkpoint(awaited=True)
            self.writer.wait()
            raise

    def verify(self, reasons: list[str]) -> list[str]:
        """Compute the recorded validation loss once more; equal bits prove that the state came back.

        Answers why the attempt is not exact: ``reasons``, or this if nothing else explains a difference.
        """
        ref = self.attempt.resumed_from
        if ref is None or ref.val_loss is None or self.state.batch:
            return reasons
        loss, _ = self.validate("verifying")
        equal = loss == ref.val_loss
        self.session.send(ResumeVerified(ref.id, ref.val_loss, loss, equal))
        return reasons or ([] if equal else [f"validation loss {ref.val_loss!r} → {loss!r}"])

    def announce(self, inexact_reasons: list[str]) -> None:
        self.session.boundary()
        ref = self.attempt.resumed_from
        self.session.send(
            Prepared(
                numerics=self.attempt.numerics.to_json(),
                fingerprint=self.attempt.fingerprint,
                inexact_reasons=inexact_reasons,
                from_checkpoint=ref.id if ref else None,
                epochs=self.plan.epochs,
                epochs_done=self.state.epochs_done,
                step=self.state.step,
                steps=self.plan.steps,
            )
        )

    # -- Epochs ----------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """The steps of the running epoch that are still to be done."""
        epoch = self.state.epochs_done + 1
        indices = self.attempt.train_indices
        permutation = order(self.spec.seed, epoch, len(indices))
        batches = cut_into_batches(
            [indices[place] for place in permutation], self.spec.hyperparameters.batch_size
        )
        self.learner.train()
        self.report_training()
        started_at = self.session.work_clock()
        for batch in self.attempt.source.load(epoch, batches[self.state.batch :]):
            self.session.boundary()
            rate = self.plan.learning_rate(self.state.step + 1)
            loss, correct = self.learner.step(batch, self.state.step + 1, rate)
            self.state.end_step()
            self.unsaved = True
            self.session.send(StepDone(self.state.step, epoch))
            self.meter.add(rate, loss, correct, len(batch.labels))
            self.state.sums.seconds += self.session.work_clock() - started_at
            self.learn_cost(self.writer.finished())
            self.report_training()
            # The epoch's own comes in a moment, if this was its last batch.
            if self.state.batch < len(batches) and self.cadence.is_due(time.monotonic()):
                self.start_checkpoint()
                self.report_training()
            started_at = self.session.work_clock()
        self.meter.flush()

    def report_training(self) -> None:
        """After every step, and where another phase ended: whoever hangs next hangs in training."""
        self.session.progress("training", self.state.step, self.plan.steps)

    def end_epoch(self) -> None:
        """Validate, and seal the epoch: its metrics go out right before the checkpoint that holds it."""
        started_at = self.session.work_clock()
        val_loss, val_accuracy = self.validate("validation")
        if not math.isfinite(val_loss):
            raise NonFiniteLoss("The validation loss became NaN or infinite; lower the learning rate.")
        state, sums = self.state, self.state.sums
        metrics = EpochMetrics(
            epoch=state.epochs_done + 1,
            step=state.step,
            train_loss=sums.mean_loss(),
            train_accuracy=sums.accuracy(),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self.plan.learning_rate(state.step),
            images_per_second=sums.samples / max(sums.seconds, 1e-9),
            duration_seconds=sums.seconds + self.session.work_clock() - started_at,
        )
        state.end_epoch(val_loss, val_accuracy)
        if self.spec.early_stopping is not None:
            state.patience.see(val_loss, self.spec.early_stopping)
        ends_segment = self.plan.ends_segment(state.epochs_done)
        if ends_segment:  # it was the last one, until the job was extended
            state.patience.renew()
        self.unsealed.append(metrics)
        is_last = state.epochs_done == self.plan.epochs or state.patience.exhausted
        every = self.spec.fault_tolerance.checkpoint_every.epochs
        if is_last or ends_segment or state.epochs_done % every == 0:
            self.start_checkpoint(awaited=is_last)

    def validate(self, phase: str) -> tuple[float, float]:
        """Mean loss and accuracy over the validation samples, always in the same batches."""

        requested = self.attempt.val_batches

        def batches() -> Iterator[Batch]:
            for done, batch in enumerate(self.attempt.source.load(UNAUGMENTED, requested)):
                self.session.boundary()
                self.session.progress(phase, done, len(requested))
                yield batch

        return self.learner.evaluate(batches())

    # -- Checkpoints -----------------------------------------------------------------------------

    def start_checkpoint(self, *, awaited: bool = False) -> None:
        """Copy the state; it is written while training goes on. Waits for the write before.

        ``awaited``: nothing is trained until it is written.
        """
        self.meter.flush()
        began_at = time.monotonic()
        self.learn_cost(self.writer.wait())
        # A parked trainer may have lost the job: it must not even begin to write.
        self.session.wait_while_silent()
        content = self.snapshot()
        now = time.monotonic()
        self.writer.start(Draft(content, self.unsealed, stall_seconds=now - began_at), awaited=awaited)
        self.unsaved, self.unsealed = False, []
        self.cadence.saved(now)

    def learn_cost(self, cost: Cost | None) -> None:
        """Saving more often than it pays wastes time; how much it takes is measured each time."""
        if cost is not None:
            numerics = self.attempt.numerics
            stolen = cost.cpu_seconds / numerics.threads if numerics.device == "cpu" else 0.0
            self.cadence.measured(cost.stall_seconds + stolen, cost.write_seconds)

    def snapshot(self) -> dict[str, Any]:
        """All that a later attempt needs, in copies: training may go on while they are written."""
        return {
            **self.learner.snapshot(),
            **self.state.to_dict(),
            "spec": self.task.spec,
            "segments": self.task.segments,
            "classes": self.attempt.classes,
            "fingerprint": self.attempt.fingerprint,
        }

    def hash_weights(self) -> str:
        weights = self.learner.network.state_dict()
        return weights_sha256(weights, lambda done: self.session.progress("checkpoint", done, len(weights)))
