"""What changes while a job trains, apart from tensors: a checkpoint holds all of it."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from models.job_spec import EarlyStopping


@dataclass
class EpochSums:
    """Sums of the running epoch, kept in float64 and added up in the order of the steps."""

    loss: float = 0.0
    correct: int = 0
    samples: int = 0
    seconds: float = 0.0  #: the only sum that differs from run to run

    def mean_loss(self) -> float:
        return self.loss / self.samples

    def accuracy(self) -> float:
        return self.correct / self.samples


@dataclass
class Best:
    """The epoch with the lowest validation loss so far; the earlier one of equals."""

    epoch: int = 0
    val_loss: float = math.inf
    val_accuracy: float = 0.0


@dataclass
class Patience:
    """Early stopping: how long the validation loss has not fallen by ``min_delta``."""

    best_loss: float = math.inf
    epochs_without: int = 0
    exhausted: bool = False

    def see(self, val_loss: float, rule: EarlyStopping) -> None:
        if val_loss < self.best_loss - rule.min_delta:
            self.best_loss, self.epochs_without = val_loss, 0
        else:
            self.epochs_without += 1
        self.exhausted = self.epochs_without >= rule.patience

    def renew(self) -> None:
        self.epochs_without, self.exhausted = 0, False


@dataclass
class RunState:
    epochs_done: int = 0
    step: int = 0  #: optimizer steps done, over the whole job
    batch: int = 0  #: batches done within the running epoch
    sums: EpochSums = field(default_factory=EpochSums)
    best: Best = field(default_factory=Best)
    patience: Patience = field(default_factory=Patience)
    val_loss: float | None = None  #: where the state ends an epoch

    @property
    def epoch(self) -> int:
        """The 1-based epoch that the state lies in or ends."""
        return self.epochs_done + (1 if self.batch else 0)

    def end_step(self) -> None:
        self.step += 1
        self.batch += 1
        self.val_loss = None

    def end_epoch(self, val_loss: float, val_accuracy: float) -> None:
        self.epochs_done += 1
        self.batch = 0
        self.sums = EpochSums()
        self.val_loss = val_loss
        if val_loss < self.best.val_loss:
            self.best = Best(self.epochs_done, val_loss, val_accuracy)

    def to_dict(self) -> dict[str, Any]:
        """As a checkpoint holds it; ``epoch`` counts the finished ones, as notebooks expect it."""
        return {
            "epoch": self.epochs_done,
            "step": self.step,
            "batch": self.batch,
            "sums": asdict(self.sums),
            "best": asdict(self.best),
            "early_stopping": asdict(self.patience),
            "val_loss": self.val_loss,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(
            epochs_done=values["epoch"],
            step=values["step"],
            batch=values["batch"],
            sums=EpochSums(**values["sums"]),
            best=Best(**values["best"]),
            patience=Patience(**values["early_stopping"]),
            val_loss=values["val_loss"],
        )
