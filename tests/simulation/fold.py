"""Training as a fold: the state after a step is a hash of the state before it and of what the step saw.

So equal weights mean that every step was done once, in order, with its own batch and learning rate, and each
loss says which state it came from.
"""

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, Any

from models.job_spec import JobSpec, Segment
from tests.simulation.kernel import kernel
from worker.training import randomness
from worker.training.data import cut_into_batches
from worker.training.optimization import Plan

NUM_TRAIN, NUM_VAL = 8, 2
TRAIN, VAL = list(range(NUM_TRAIN)), list(range(NUM_TRAIN, NUM_TRAIN + NUM_VAL))
STEP_SECONDS = 0.7

order = functools.cache(randomness.order)


@dataclass(frozen=True)
class FoldBatch:
    labels: tuple[int, ...]  #: which samples these are


class FoldSource:
    """Batches without pixels."""

    def load(self, epoch: int, batches: Iterable[list[int]]) -> Iterable[FoldBatch]:
        return [FoldBatch(tuple(batch)) for batch in batches]


class FoldLearner:
    """What a network with its optimizer is to the trainer."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # In one dictionary, so that a snapshot that forgot to copy would share it.
        self.weights = {"fold": first_state(seed)}
        self.network = SimpleNamespace(state_dict=lambda: self.weights)

    def train(self) -> None:
        pass

    def step(self, batch: FoldBatch, step: int, learning_rate: float) -> tuple[float, int]:
        kernel().sleep(STEP_SECONDS * kernel().random.uniform(0.5, 1.5))
        before = self.weights["fold"]
        self.weights["fold"] = next_state(before, self._seed, step, batch.labels, learning_rate)
        return loss_of(before, batch.labels), len(batch.labels)

    def evaluate(self, batches: Iterable[FoldBatch]) -> tuple[float, float]:
        seen = [label for batch in batches for label in batch.labels]
        return loss_of(self.weights["fold"], tuple(seen)), 0.5

    def snapshot(self) -> dict[str, Any]:
        return {"model_state_dict": dict(self.weights), "optimizer_state_dict": {}}

    def restore(self, content: dict[str, Any]) -> None:
        self.weights |= content["model_state_dict"]

    def frozen_tensors(self) -> dict[str, Any]:
        return {}

    def checkpoint_bytes(self) -> int:
        return 1000

    def frozen_bytes(self) -> int:
        return 0


def first_state(seed: int) -> str:
    return _hash("begin", seed)


def next_state(before: str, seed: int, step: int, samples: tuple[int, ...], learning_rate: float) -> str:
    return _hash(before, seed, step, samples, learning_rate)


def loss_of(state: str, samples: tuple[int, ...]) -> float:
    return int(_hash(state, samples)[:12], 16) / 16**12


def weights_sha256(weights: dict[str, str], on_tensor: Any = None) -> str:
    return _hash("weights", weights["fold"]) * 2


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Undisturbed:
    """What a job must come to."""

    weights_sha256: str
    losses: dict[int, float]  #: by step
    epochs: dict[int, tuple[int, float, float]]  #: step, training loss and validation loss by epoch


def undisturbed(spec: dict[str, Any], segments: list[dict[str, Any]], num_epochs: int) -> Undisturbed:
    """The same training without any of the machinery that is tested."""
    parsed = JobSpec.model_validate(spec)
    batch_size = parsed.hyperparameters.batch_size
    plan = Plan(
        tuple(Segment.model_validate(segment) for segment in segments),
        len(cut_into_batches(TRAIN, batch_size)),
        parsed.hyperparameters.lr,
    )
    state, step = first_state(parsed.seed), 0
    losses: dict[int, float] = {}
    epochs: dict[int, tuple[int, float, float]] = {}
    for epoch in range(1, num_epochs + 1):
        total = 0.0
        for batch in cut_into_batches([TRAIN[i] for i in order(parsed.seed, epoch, NUM_TRAIN)], batch_size):
            step += 1
            losses[step] = loss_of(state, tuple(batch))
            total += losses[step] * len(batch)
            state = next_state(state, parsed.seed, step, tuple(batch), plan.learning_rate(step))
        epochs[epoch] = (step, total / NUM_TRAIN, loss_of(state, tuple(VAL)))
    return Undisturbed(weights_sha256({"fold": state}), losses, epochs)


class Archive:
    """``torch.save`` and ``torch.load`` of what holds no tensors, in two writes.

    As JSON: how long a pickle is depends on which equal strings happen to be one object.
    """

    @staticmethod
    def save(content: dict[str, Any], sink: IO[bytes]) -> None:
        sink.write(json.dumps({**content, "model_state_dict": None}).encode() + b"\n")
        # Taken from memory as it is written, like the tensors of a real archive.
        sink.write(json.dumps(content["model_state_dict"]).encode())

    @staticmethod
    def load(stream: IO[bytes], **_: object) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(stream.readline())
        return {**content, "model_state_dict": json.loads(stream.read())}
