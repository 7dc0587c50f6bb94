"""Randomness as a function of (seed, epoch, step, sample), never of history.

A resumed run asks for the same numbers and gets the same randomness: nothing is replayed, no generator
state is saved, and the number of loading workers does not matter.
"""

import hashlib
import random

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "augment", epoch, index)``."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def order(seed: int, epoch: int, num_samples: int) -> list[int]:
    """The order in which the samples of a 1-based epoch are taken."""
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    permutation: list[int] = torch.randperm(num_samples, generator=generator).tolist()
    return permutation


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Before the transforms of one sample; ``index`` is its place in the manifest."""
    number = derive(seed, "augment", epoch, index)
    # Not torch.manual_seed: transforms run on the CPU, and it would touch every device each time.
    torch.default_generator.manual_seed(number)
    random.seed(number)


def seed_step(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
    """Before the forward pass of a 1-based step: dropout and stochastic depth draw from here."""
    number = derive(seed, "step", step, rank)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def seed_initialisation(seed: int) -> None:
    """Before new parameters are drawn."""
    torch.default_generator.manual_seed(derive(seed, "init"))
