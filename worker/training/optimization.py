"""The optimizer, and the learning rate as a function of (step, segments)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from models.job_spec import Hyperparameters, Segment

SGD_MOMENTUM = 0.9


@dataclass(frozen=True)
class Plan:
    """How long a job trains and at what rate; later segments never change earlier steps."""

    segments: tuple[Segment, ...]
    steps_per_epoch: int
    peak_rate: float

    @property
    def epochs(self) -> int:
        return sum(segment.epochs for segment in self.segments)

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def ends_segment(self, epochs_done: int) -> bool:
        """Whether a segment ends there and another one follows: whoever extends a job wants it trained."""
        return epochs_done in accumulate(segment.epochs for segment in self.segments[:-1])

    def learning_rate(self, step: int) -> float:
        """The rate of a 1-based step: that of its segment's schedule, slowed down by rollbacks before it."""
        slowdowns = [slowdown for segment in self.segments for slowdown in segment.slowdowns]
        return self._scheduled_rate(step) * math.prod(s.factor for s in slowdowns if step > s.after_step)

    def _scheduled_rate(self, step: int) -> float:
        """A cosine falls from the peak towards 0 within its own segment."""
        steps_before = 0
        for segment in self.segments:
            steps = segment.epochs * self.steps_per_epoch
            if step <= steps_before + steps:
                if segment.scheduler == "constant":
                    return self.peak_rate
                return self.peak_rate * 0.5 * (1.0 + math.cos(math.pi * (step - 1 - steps_before) / steps))
            steps_before += steps
        raise ValueError(f"step {step} lies beyond the last of {self.steps}")


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter], hyperparameters: Hyperparameters, implementation: str
) -> torch.optim.Optimizer:
    """``implementation`` is ``fused``, ``foreach`` or ``single``: each rounds differently."""
    learning: Sequence[torch.nn.Parameter] = [p for p in parameters if p.requires_grad]
    fused, foreach = implementation == "fused", implementation == "foreach"
    rate, decay = hyperparameters.lr, hyperparameters.weight_decay
    match hyperparameters.optimizer:
        case "adam":
            return torch.optim.Adam(learning, rate, weight_decay=decay, fused=fused, foreach=foreach)
        case "adamw":
            return torch.optim.AdamW(learning, rate, weight_decay=decay, fused=fused, foreach=foreach)
        case "sgd":
            return torch.optim.SGD(
                learning, rate, momentum=SGD_MOMENTUM, weight_decay=decay, fused=fused, foreach=foreach
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
