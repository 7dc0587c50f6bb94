"""How much longer an epoch takes that has a checkpoint to write than one that has none, in one real job.

A worker of Perdure trains a job that saves at the end of every second epoch. An epoch is counted from the
last step of the one before to its own last step. So it holds the validation and the snapshot at the end of
the epoch before, and all steps that go on while that checkpoint is written, read back and recorded. Epochs
with and without take turns, one more of those without; so a machine that slowly becomes faster or slower
weighs on both alike.
"""

import itertools
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoint_case import WARM_UP_EPOCHS, Job
from benchmarks.processes import eventually
from benchmarks.recovery_perdure import READY_SECONDS, Perdure
from benchmarks.step_log import SAVED, STEP, Moment
from models import job_store
from models.job_state import EventType

#: A job that takes longer than this for one epoch is broken.
EPOCH_SECONDS = 600.0
FEWEST_EPOCHS = WARM_UP_EPOCHS + 3
_RESAMPLES = 2000


@dataclass(frozen=True)
class Epoch:
    """One epoch after the first."""

    number: int
    intervals: tuple[float, ...]  #: before each of its steps was done, in seconds
    saving: int  #: of these, how many saw any part of a checkpoint: 0 in an epoch without

    @property
    def seconds(self) -> float:
        return sum(self.intervals)


@dataclass(frozen=True)
class Overhead:
    """Warmed-up epochs with a checkpoint and without, and the stalls that the trainer reported."""

    epochs: tuple[Epoch, ...]
    stalls: tuple[float, ...]
    writes: tuple[float, ...]  #: from the snapshot until the file was verified

    @property
    def with_checkpoint(self) -> list[Epoch]:
        return [epoch for epoch in self.epochs if epoch.saving]

    @property
    def without(self) -> list[Epoch]:
        return [epoch for epoch in self.epochs if not epoch.saving]

    @property
    def percent(self) -> float:
        return _excess_percent(_seconds(self.with_checkpoint), _seconds(self.without))

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """Where nine in ten medians lie if the same epochs are drawn again and again (bootstrap)."""
        generator = random.Random(seed)
        with_checkpoint, without = _seconds(self.with_checkpoint), _seconds(self.without)
        drawn = sorted(
            _excess_percent(
                generator.choices(with_checkpoint, k=len(with_checkpoint)),
                generator.choices(without, k=len(without)),
            )
            for _ in range(_RESAMPLES)
        )
        return drawn[_RESAMPLES // 20], drawn[-_RESAMPLES // 20]

    @property
    def noise_percent(self) -> float:
        """What the same comparison says of epochs without a checkpoint, every other one against the rest."""
        without = _seconds(self.without)
        return abs(_excess_percent(without[1::2], without[0::2]))

    @property
    def direct_seconds(self) -> float:
        """Of one checkpoint: the stall, and what the steps took longer during the write."""
        return statistics.median(self._excess(epoch, epoch.saving) for epoch in self.with_checkpoint)

    @property
    def direct_percent(self) -> float:
        return 100 * self.direct_seconds / statistics.median(_seconds(self.without))

    @property
    def direct_noise_percent(self) -> float:
        """How far the same steps of epochs without a checkpoint lie from their own median."""
        steps = round(statistics.median(epoch.saving for epoch in self.with_checkpoint))
        off = statistics.median(abs(self._excess(epoch, steps)) for epoch in self.without)
        return 100 * off / statistics.median(_seconds(self.without))

    @property
    def stall_seconds(self) -> float:
        return statistics.median(self.stalls)

    def _excess(self, epoch: Epoch, steps: int) -> float:
        """Of the first steps of an epoch over the same steps of epochs without a checkpoint."""
        usual = (
            statistics.median(other.intervals[place] for other in self.without) for place in range(steps)
        )
        return sum(took - expected for took, expected in zip(epoch.intervals, usual, strict=False))


def epochs_of(moments: Sequence[Moment], steps_per_epoch: int) -> list[Epoch]:
    """The whole epochs of a job after the first, from what was noted of it."""
    done_at = {moment.number: moment.at for moment in moments if moment.event == STEP}
    saved_at = {moment.number: moment.at for moment in moments if moment.event == SAVED}
    epochs: list[Epoch] = []
    for number in itertools.count(2):
        first = (number - 1) * steps_per_epoch + 1
        if first + steps_per_epoch - 1 not in done_at:
            return epochs
        ends = [done_at[step] for step in range(first - 1, first + steps_per_epoch)]
        # The step that is under way when the checkpoint is recorded counts as one that it disturbed.
        saved = saved_at.get(first - 1, float("-inf"))
        saving = sum(began < saved for began in ends[:-1])
        epochs.append(Epoch(number, tuple(b - a for a, b in itertools.pairwise(ends)), saving))
    raise AssertionError("counting never ends")


def measure(job: Job, folder: Path, deadline: float) -> Overhead:
    """Train the job on a worker of its own, no longer than until ``deadline``. Raises NotInTime."""
    job.draw(folder / "data" / "images")
    with Perdure(folder / "perdure", job.threads) as perdure:
        perdure.await_warm(perdure.start_worker())
        job_id = perdure.submit(job.spec("images"))

        def epochs() -> list[Epoch]:
            moments = [moment for moment in perdure.log.read() if moment.job == job_id]
            return epochs_of(moments, job.steps_per_epoch)

        def is_over() -> bool | None:
            status = perdure.job(job_id).status
            if status in {"failed", "cancelled", "paused"}:
                raise RuntimeError(f"the job has {status}: {perdure.job(job_id).error_message}")
            enough = len(epochs()) >= FEWEST_EPOCHS - 1 and time.monotonic() > deadline
            return True if status == "succeeded" or enough else None

        patience = READY_SECONDS + EPOCH_SECONDS * job.epochs
        # Seldom, since looking takes a little of the processor, too.
        eventually(is_over, seconds=patience, what=f"{job_id} to succeed", every=0.5)
        events = job_store.job_events(perdure.db, job_id, limit=100_000)
        written = [event.data for event in events if event.type == EventType.CHECKPOINT_COMMITTED]
        # The first checkpoint found no buffers yet, and no epoch follows the last.
        counted = written[1:-1] or written
        return Overhead(
            balanced([epoch for epoch in epochs() if epoch.number > WARM_UP_EPOCHS]),
            tuple(data["stall_seconds"] for data in counted),
            tuple(data["write_seconds"] for data in counted),
        )


def balanced(epochs: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Begun and ended by one without a checkpoint: whatever drifts evenly then shifts both medians alike."""
    return tuple(epochs if not epochs[-1].saving else epochs[:-1])


def _seconds(epochs: Sequence[Epoch]) -> list[float]:
    return [epoch.seconds for epoch in epochs]


def _excess_percent(these: Sequence[float], those: Sequence[float]) -> float:
    return 100 * (statistics.median(these) / statistics.median(those) - 1)
