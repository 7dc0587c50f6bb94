"""The losses of the running epoch: reported in batches, added up in order."""

import math
import time
from dataclasses import dataclass

import torch

from models.errors import NonFiniteLoss
from worker.messages import StepMetrics, StepRow
from worker.training.session import Session
from worker.training.state import RunState

FLUSH_SECONDS = 0.25


@dataclass(frozen=True)
class _Pending:
    step: int
    learning_rate: float
    loss: torch.Tensor
    correct: torch.Tensor
    samples: int


class Meter:
    """Keeps losses as tensors until they are due: reading one waits for the GPU to catch up."""

    def __init__(self, session: Session, state: RunState) -> None:
        self._session = session
        self._state = state
        self._pending: list[_Pending] = []
        self._flushed_at = time.monotonic()

    def add(self, learning_rate: float, loss: torch.Tensor, correct: torch.Tensor, samples: int) -> None:
        """Note the step that the state counted last. Raises NonFiniteLoss, at the latest when flushed."""
        self._pending.append(_Pending(self._state.step, learning_rate, loss, correct, samples))
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Add what is pending to the epoch's sums and report it. Raises NonFiniteLoss."""
        rows = []
        unbounded = None
        epoch, sums = self._state.epochs_done + 1, self._state.sums
        for pending in self._pending:
            loss = float(pending.loss)
            if not math.isfinite(loss):
                unbounded = pending.step
                break
            sums.loss += loss * pending.samples
            sums.correct += int(pending.correct)
            sums.samples += pending.samples
            rows.append(StepRow(pending.step, epoch, loss, pending.learning_rate))
        self._pending.clear()
        self._flushed_at = time.monotonic()
        if rows:
            self._session.send(StepMetrics(rows))
        if unbounded is not None:
            raise NonFiniteLoss(
                f"The loss became NaN or infinite at step {unbounded}; lower the learning rate. "
                "The last checkpoint is intact."
            )
