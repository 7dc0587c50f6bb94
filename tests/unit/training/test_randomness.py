"""Randomness is a function of (seed, purpose, numbers); these values must never change."""

import random

import torch

from worker.training import randomness
from worker.training.data import cut_into_batches


def test_derived_seeds_stay_what_they_are() -> None:
    # Of a release: other values would let a job that resumes on newer code end with other weights.
    assert randomness.derive(0, "order", 1) == 1332101017241992705
    assert randomness.derive(7, "augment", 2, 31) == 4350060046249552072
    assert randomness.derive(7, "step", 128, 0) == 1442140362796216855
    assert randomness.derive(2**63 - 1, "init") == 1206334547895538546


def test_every_number_matters() -> None:
    seeds = {
        randomness.derive(seed, purpose, *numbers)
        for seed in (0, 1)
        for purpose in ("order", "augment", "step")
        for numbers in ((1, 2), (2, 1), (12,), (1, 2, 0))
    }
    assert len(seeds) == 24
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_epoch_has_one_order_whatever_was_drawn_before() -> None:
    first = randomness.order(7, 1, 50)
    torch.rand(9)
    assert randomness.order(7, 1, 50) == first
    assert sorted(first) == list(range(50))
    assert randomness.order(7, 2, 50) != first != randomness.order(8, 1, 50)


def test_samples_and_steps_draw_their_own_numbers() -> None:
    def drawn() -> tuple[float, float]:
        return random.random(), float(torch.rand(()))

    randomness.seed_sample(7, 1, 5)
    sample = drawn()
    randomness.seed_step(7, 1, torch.device("cpu"))
    step = drawn()[1]
    randomness.seed_sample(7, 1, 5)
    assert drawn() == sample
    randomness.seed_sample(7, 2, 5)
    assert drawn() != sample
    randomness.seed_step(7, 1, torch.device("cpu"))
    assert drawn()[1] == step
    randomness.seed_step(7, 2, torch.device("cpu"))
    assert drawn()[1] != step


def test_a_last_batch_of_one_joins_its_predecessor() -> None:
    assert cut_into_batches(range(9), 4) == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert cut_into_batches(range(10), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert cut_into_batches(range(8), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert cut_into_batches(range(3), 1) == [[0], [1], [2]]
    assert cut_into_batches(range(1), 4) == [[0]]
    assert cut_into_batches([], 4) == []
