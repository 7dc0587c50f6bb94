"""Learning rates as a function of (step, segments), and optimizers that all do the same arithmetic."""

import math

import pytest
import torch

from models.errors import NonFiniteLoss
from models.job_spec import Hyperparameters, JobSpec, Segment
from worker.training.data import Batch
from worker.training.learner import Learner
from worker.training.network import Architecture, build
from worker.training.numerics import Numerics
from worker.training.optimization import Plan, build_optimizer, set_learning_rate

CONSTANT, COSINE = Segment(epochs=2, scheduler="constant"), Segment(epochs=2, scheduler="cosine")


def test_constant() -> None:
    plan = Plan((CONSTANT,), steps_per_epoch=3, peak_rate=0.1)
    assert [plan.learning_rate(step) for step in range(1, 7)] == [0.1] * 6
    assert plan.epochs == 2 and plan.steps == 6


def test_cosine_falls_from_the_peak_towards_zero() -> None:
    plan = Plan((COSINE,), steps_per_epoch=2, peak_rate=1.0)
    rates = [plan.learning_rate(step) for step in range(1, 5)]
    assert rates == pytest.approx([1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])


def test_a_later_segment_starts_anew_and_changes_nothing_before_it() -> None:
    short = Plan((COSINE,), steps_per_epoch=2, peak_rate=1.0)
    longer = Plan((COSINE, COSINE, CONSTANT), steps_per_epoch=2, peak_rate=1.0)
    before = [short.learning_rate(step) for step in range(1, 5)]
    assert [longer.learning_rate(step) for step in range(1, 9)] == before * 2
    assert longer.learning_rate(9) == 1.0
    with pytest.raises(ValueError, match="beyond"):
        short.learning_rate(5)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_implementations_differ_in_last_bits_only(name: str) -> None:
    """In channels_last, where fused Adam would go wrong if the memory formats of its tensors differed."""
    results = []
    for implementation in ("single", "foreach", "fused"):
        network = build(Architecture("shufflenet_v2_x0_5", 3, 32, 0.0), seed=1).module
        network = network.to(memory_format=torch.channels_last).eval()
        optimizer = build_optimizer(
            network.parameters(), Hyperparameters(optimizer=name, weight_decay=0.01), implementation
        )
        torch.manual_seed(0)
        images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        for rate in (0.001, 0.0005):
            set_learning_rate(optimizer, rate)
            network(images).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(network.state_dict())
    for tensors in results[1:]:
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, results[0][key], rtol=1e-3, atol=1e-5), key


def test_sgd_has_momentum_and_frozen_parameters_are_left_out() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), requires_grad=False)]
    optimizer = build_optimizer(parameters, Hyperparameters(optimizer="sgd"), "fused")
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert len(optimizer.param_groups[0]["params"]) == 1


def learner(seed: int = 1) -> Learner:
    spec = JobSpec.model_validate(
        {
            "dataset": {"path": "x"},
            "model": {"arch": "shufflenet_v2_x0_5", "freeze": "none", "dropout": 0.5},
            "hyperparameters": {"weight_decay": 0.01},
        }
    )
    numerics = Numerics("cpu", 1, "float32", "channels_last", "fused", "test")
    classifier = build(Architecture("shufflenet_v2_x0_5", 3, 32, 0.5), seed)
    return Learner(classifier, spec, numerics, torch.device("cpu"))


def test_a_step_is_a_function_of_state_batch_and_number() -> None:
    torch.manual_seed(5)
    batch = Batch(torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))
    one, other = learner(), learner()
    one.train(), other.train()
    losses = [one.step(batch, step, 0.001)[0] for step in (1, 2, 3)]
    other.step(batch, 1, 0.001), other.step(batch, 2, 0.001)
    saved = other.snapshot()
    torch.rand(17)  # whatever happened in between
    resumed = learner(seed=2)
    resumed.network.load_state_dict(saved["model_state_dict"])
    resumed.restore_optimizer(saved["optimizer_state_dict"])
    resumed.evaluate([batch])
    resumed.train()
    assert torch.equal(resumed.step(batch, 3, 0.001)[0], losses[2])
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name])
    assert not torch.equal(other.step(batch, 4, 0.001)[0], losses[2])


def test_a_snapshot_is_a_copy_and_says_nothing_of_the_implementation() -> None:
    one = learner()
    one.train()
    batch = Batch(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))
    one.step(batch, 1, 0.1)
    saved = one.snapshot()
    before = saved["model_state_dict"]["conv1.0.weight"].clone()
    one.step(batch, 2, 0.1)
    assert torch.equal(saved["model_state_dict"]["conv1.0.weight"], before)
    groups = saved["optimizer_state_dict"]["param_groups"]
    assert groups[0]["fused"] is None and groups[0]["foreach"] is None


def test_weights_without_bounds_are_not_saved() -> None:
    """The loss of the step that led to them may still have been finite."""
    one = learner()
    one.snapshot()
    with torch.no_grad():
        one.network.get_parameter("conv1.0.weight")[0] = float("inf")
    with pytest.raises(NonFiniteLoss):
        one.snapshot()
