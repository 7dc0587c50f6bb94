"""``python -m benchmarks.checkpoint_costs STATE …``: save one state by every method in turn, again and again.

In a process of its own, with the environment of a trainer. Each measurement is a line of JSON in a file.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.checkpoint_case import STATES, State
from benchmarks.checkpoint_methods import methods
from benchmarks.training_case import CLASSES
from models.job_spec import JobSpec
from worker.messages import Slot
from worker.training.data import Batch
from worker.training.learner import Learner
from worker.training.network import Architecture, build, build_empty, load
from worker.training.numerics import Numerics


def build_learner(state: State, threads: int) -> Learner:
    """With an optimizer that has done a step, and so has its moments."""
    spec = JobSpec.model_validate(
        {
            "dataset": {"path": "none"},
            "model": {"arch": state.arch, "weights": None, "freeze": state.freeze},
            "hyperparameters": {"optimizer": "adam"},
        }
    )
    numerics = Numerics.resolve(spec, Slot("cpu", threads, "any"))
    device = numerics.apply()
    architecture = Architecture(state.arch, CLASSES, 224, dropout=0.3)
    if state.is_trained:
        learner = Learner(build(architecture, seed=0), spec, numerics, device)
        train(learner, 1)
        return learner
    classifier = build_empty(architecture)  # drawing 300 million parameters as published takes a minute
    tensors = classifier.module.state_dict().items()
    load(classifier.module, {name: torch.randn(tensor.shape) for name, tensor in tensors})
    learner = Learner(classifier, spec, numerics, device)
    for parameter in learner.network.parameters():
        parameter.grad = 0.01 * parameter.detach()
    learner._optimizer.step()
    learner._optimizer.zero_grad(set_to_none=True)
    return learner


def train(learner: Learner, step: int) -> None:
    """One small step: a checkpoint follows one in real life, which leaves little of the state in caches."""
    generator = torch.Generator().manual_seed(step)
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)
    learner.train()
    learner.step(Batch(pixels, torch.arange(4) % CLASSES), step, 1e-4)


def measure(
    state: State, threads: int, folder: Path, results: Path, repetitions: int, deadline: float
) -> None:
    """Round after round over all methods, so that each sees the same machine; round 0 is the warm-up."""
    learner = build_learner(state, threads)
    contestants = methods(learner, has_frozen_part=state.freeze != "none")
    with results.open("a", buffering=1) as lines:
        for repetition in range(repetitions + 1):
            if repetition > 1 and time.monotonic() > deadline:
                return
            for name, method in contestants.items():
                place = folder / name
                place.mkdir(exist_ok=True)
                if state.is_trained:
                    train(learner, repetition + 2)
                saved = method.save(place)
                lines.write(json.dumps({"method": name, "repetition": repetition, **asdict(saved)}) + "\n")
                shutil.rmtree(place)
                os.sync()  # nobody pays for what another left in the disk's queue


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint_costs", description=__doc__)
    parser.add_argument("state", choices=STATES)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--deadline", type=float, default=float("inf"), help="on CLOCK_MONOTONIC")
    options = parser.parse_args()
    measure(
        STATES[options.state],
        options.threads,
        options.folder,
        options.results,
        options.repetitions,
        options.deadline,
    )


if __name__ == "__main__":
    main()
