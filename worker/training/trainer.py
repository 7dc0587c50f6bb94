"""The story of one trainer process: prepare, resume, then epochs of steps, validation and checkpoint.

Everything that it computes is a function of the last checkpoint and (seed, epoch, step, sample). So it may
be killed at any instruction, and the next one ends with the same weights to the last bit.
"""

import io
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from models.errors import DatasetChanged, NonFiniteLoss
from models.job_spec import JobSpec, Segment
from models.storage import storage_from_url
from worker.messages import (
    CheckpointRef,
    CheckpointRejected,
    EpochMetrics,
    Finished,
    Prepared,
    ResumeVerified,
    StepDone,
    Task,
)
from worker.training import checkpoint
from worker.training.data import UNAUGMENTED, Batch, BatchSource, cut_into_batches
from worker.training.dataset import prepare_dataset
from worker.training.fingerprint import differences, fingerprint
from worker.training.learner import Learner
from worker.training.metering import Meter
from worker.training.network import Architecture, Classifier, build_empty, default_image_size, load
from worker.training.numerics import Numerics
from worker.training.optimization import Plan
from worker.training.outcome import outcome_of
from worker.training.pretrained import initial_network
from worker.training.randomness import order
from worker.training.session import Session, StopRequested
from worker.training.state import RunState
from worker.training.weights_hash import weights_sha256

EXIT_DONE = 0


def run(task: Task, inbox_fd: int, outbox_fd: int) -> NoReturn:
    """Train until the job's last epoch, a request to leave, or an error; say which; leave the process."""
    session = Session(inbox_fd, outbox_fd, task.park_after_seconds)
    session.start()
    session.send(outcome_of(lambda: Trainer(task, session).train()))
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's farewell: idle thread pools and loading workers would only delay it.
    os._exit(EXIT_DONE)


class Trainer:
    """One attempt at one job."""

    def __init__(self, task: Task, session: Session) -> None:
        session.progress("starting", 0, 1)
        self.task, self.session = task, session
        self.spec = JobSpec.model_validate(task.spec)
        self.storage = storage_from_url(task.storage_url)
        self.numerics = Numerics.of_attempt(task.numerics, self.spec, task.slot)
        self.device = self.numerics.apply()
        self.state = RunState()
        self.unsaved = False  #: whether the state is ahead of the last checkpoint
        self.saved_at = time.monotonic()

    def train(self) -> Finished:
        """Raises TrainingError, StopRequested (after a checkpoint) and CancelRequested (without one)."""
        self.prepare()
        try:
            while self.state.epochs_done < self.plan.epochs and not self.state.patience.exhausted:
                self.train_epoch()
                self.end_epoch()
        except StopRequested:
            if self.unsaved:
                self.write_checkpoint()
            raise
        return Finished(self.hash_weights(), stopped_early=self.state.epochs_done < self.plan.epochs)

    def hash_weights(self) -> str:
        weights = self.learner.network.state_dict()
        return weights_sha256(weights, lambda done: self.session.progress("checkpoint", done, len(weights)))

    # -- Prepare and resume ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Data, network, optimizer and state as the last checkpoint left them, or as jobs start."""
        hyperparameters = self.spec.hyperparameters
        # Reading and hashing a checkpoint leave the interpreter free for all that comes before it is needed.
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as reader:
            newest = reader.submit(self.newest_usable_checkpoint)
            data = prepare_dataset(self.task, self.spec, self.storage, self.session)
            self.classes = data.manifest.classes
            self.train_indices = data.manifest.indices("train")
            self.val_batches = cut_into_batches(data.manifest.indices("val"), hyperparameters.batch_size)
            self.plan = Plan(
                segments=tuple(Segment.model_validate(segment) for segment in self.task.segments),
                steps_per_epoch=len(cut_into_batches(self.train_indices, hyperparameters.batch_size)),
                peak_rate=hyperparameters.lr,
            )
            self.fingerprint = fingerprint(self.numerics, self.task.slot, data.manifest.digest)
            image_size = hyperparameters.image_size or default_image_size(self.spec.model.arch)
            self.source = BatchSource(
                data.folder,
                data.manifest,
                image_size=image_size,
                augment=hyperparameters.augment,
                seed=self.spec.seed,
                workers=self.task.slot.loading_workers,
                pin_memory=self.device.type == "cuda",
                private_fds=(self.session.inbox_fd, self.session.outbox_fd),
            )
            architecture = Architecture(
                self.spec.model.arch, len(self.classes), image_size, self.spec.model.dropout
            )
            empty = build_empty(architecture) if self.task.checkpoints else None
            ref, verified = newest.result()

        self.session.boundary()
        content = checkpoint.parse(verified) if verified else None
        if empty and content:
            classifier = empty
            load(classifier.module, content["model_state_dict"])
        else:
            classifier = self.start_network(architecture)
        self.learner = Learner(classifier, self.spec, self.numerics, self.device)
        if content:
            self.restore(content)
        self.meter = Meter(self.session, self.state)
        if ref and self.task.verify:
            self.verify(ref)
        self.session.boundary()
        self.session.send(
            Prepared(
                numerics=self.numerics.to_json(),
                fingerprint=self.fingerprint,
                inexact_reasons=differences(self.task.fingerprint, self.fingerprint),
                from_checkpoint=ref.id if ref else None,
                epochs=self.plan.epochs,
                epochs_done=self.state.epochs_done,
                step=self.state.step,
                steps=self.plan.steps,
            )
        )

    def newest_usable_checkpoint(self) -> tuple[CheckpointRef, io.BytesIO] | tuple[None, None]:
        """In a thread of its own: it may report, but boundaries belong to the training thread."""
        for ref in self.task.checkpoints:
            try:
                return ref, checkpoint.read_verified(self.storage, ref, self.report_start)
            except checkpoint.CheckpointUnusable as unusable:
                self.session.send(CheckpointRejected(ref.id, str(unusable)))
        return None, None

    def start_network(self, architecture: Architecture) -> Classifier:
        return initial_network(
            architecture,
            self.spec.model.weights,
            seed=self.spec.seed,
            data_root=Path(self.task.data_root),
            downloads=self.task.downloads,
            on_bytes=self.report_start,
        )

    def report_start(self, done: int, total: int) -> None:
        self.session.progress("starting", done, total)

    def restore(self, content: dict[str, Any]) -> None:
        if content["fingerprint"]["dataset"] != self.fingerprint["dataset"]:
            raise DatasetChanged
        self.learner.restore_optimizer(content["optimizer_state_dict"])
        self.state = RunState.from_dict(content)
        if content["segments"] != self.task.segments:
            self.state.patience.renew()  # extended: whoever asks for more epochs wants them trained

    def verify(self, ref: CheckpointRef) -> None:
        """Compute the recorded validation loss once more; equal bits prove that the state came back."""
        if ref.val_loss is None or self.state.batch:
            return
        loss, _ = self.validate("verifying")
        self.session.send(ResumeVerified(ref.id, ref.val_loss, loss, equal=loss == ref.val_loss))

    # -- Epochs ----------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """The steps of the running epoch that are still to be done."""
        epoch = self.state.epochs_done + 1
        permutation = order(self.spec.seed, epoch, len(self.train_indices))
        batches = cut_into_batches(
            [self.train_indices[place] for place in permutation], self.spec.hyperparameters.batch_size
        )
        self.learner.train()
        started_at = time.monotonic()
        for batch in self.source.load(epoch, batches[self.state.batch :]):
            self.session.boundary()
            rate = self.plan.learning_rate(self.state.step + 1)
            loss, correct = self.learner.step(batch, self.state.step + 1, rate)
            self.state.end_step()
            self.unsaved = True
            self.session.send(StepDone(self.state.step, epoch))
            self.meter.add(rate, loss, correct, len(batch.labels))
            self.session.progress("training", self.state.step, self.plan.steps)
            self.state.sums.seconds += time.monotonic() - started_at
            if self.is_checkpoint_due_within_epoch(len(batches)):
                self.write_checkpoint()
            started_at = time.monotonic()
        self.meter.flush()

    def end_epoch(self) -> None:
        """Validate, and seal the epoch: its metrics go out right before the checkpoint that holds it."""
        started_at = time.monotonic()
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
            duration_seconds=sums.seconds + time.monotonic() - started_at,
        )
        state.end_epoch(val_loss, val_accuracy)
        if self.spec.early_stopping is not None:
            state.patience.see(val_loss, self.spec.early_stopping)
        is_last = state.epochs_done == self.plan.epochs or state.patience.exhausted
        if is_last or state.epochs_done % self.spec.fault_tolerance.checkpoint_every.epochs == 0:
            self.write_checkpoint(metrics)
        else:
            self.session.send(metrics)

    def validate(self, phase: str) -> tuple[float, float]:
        """Mean loss and accuracy over the validation samples, always in the same batches."""

        def batches() -> Iterator[Batch]:
            for done, batch in enumerate(self.source.load(UNAUGMENTED, self.val_batches)):
                self.session.boundary()
                self.session.progress(phase, done, len(self.val_batches))
                yield batch

        return self.learner.evaluate(batches())

    # -- Checkpoints -----------------------------------------------------------------------------

    def is_checkpoint_due_within_epoch(self, num_batches: int) -> bool:
        seconds = self.spec.fault_tolerance.checkpoint_every.seconds
        if seconds is None or self.state.batch == num_batches:  # the epoch's own comes in a moment
            return False
        return time.monotonic() - self.saved_at >= seconds

    def write_checkpoint(self, metrics: EpochMetrics | None = None) -> None:
        self.meter.flush()
        # A parked trainer may have lost the job: it must not even begin to write.
        self.session.wait_while_silent()
        progress = checkpoint.WriteProgress(
            lambda done, total: self.session.progress("checkpoint", done, total)
        )
        written = checkpoint.write(
            self.storage, self.task.job_id, self.task.attempt, self.snapshot(), progress
        )
        if metrics is not None:
            self.session.send(metrics)
        self.session.send(written)
        self.unsaved = False
        self.saved_at = time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        """All that a later attempt needs, in copies: training may go on while they are written."""
        return {
            **self.learner.snapshot(),
            **self.state.to_dict(),
            "spec": self.task.spec,
            "segments": self.task.segments,
            "classes": self.classes,
            "fingerprint": self.fingerprint,
        }
