"""A batch in several parts is the same batch: its gradients add up, only their last bits differ."""

import pytest
import torch

from models.job_spec import JobSpec, Segment
from worker.training.data import Batch
from worker.training.learner import Learner
from worker.training.network import Architecture, build
from worker.training.numerics import Numerics
from worker.training.optimization import Plan


def learner(micro_batches: int) -> Learner:
    """SqueezeNet has no BatchNorm, whose statistics would be those of the parts."""
    spec = JobSpec.model_validate(
        {
            "dataset": {"path": "x"},
            "model": {"arch": "squeezenet1_1", "weights": None, "freeze": "none", "dropout": 0.0},
            "hyperparameters": {"optimizer": "sgd", "lr": 0.01, "image_size": 32},
        }
    )
    numerics = Numerics("cpu", 1, "float32", "contiguous", "single", "test", micro_batches=micro_batches)
    classifier = build(Architecture("squeezenet1_1", 3, 32, 0.0), seed=1)
    return Learner(classifier, spec, numerics, torch.device("cpu"))


def batch(samples: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (samples, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Batch(pixels, torch.arange(samples) % 3)


@pytest.mark.parametrize(("samples", "parts"), [(8, 2), (8, 4), (7, 2), (7, 64), (3, 2)])
def test_parts_give_the_gradient_of_the_whole(samples: int, parts: int) -> None:
    whole, split = learner(1), learner(parts)
    for one in (whole, split):
        one.train()
    loss, correct = whole.step(batch(samples), 1, 0.01)
    split_loss, split_correct = split.step(batch(samples), 1, 0.01)
    assert float(split_loss) == pytest.approx(float(loss), rel=1e-5) and int(split_correct) == int(correct)
    weights = split.network.state_dict()
    for name, tensor in whole.network.state_dict().items():
        assert torch.allclose(weights[name], tensor, rtol=1e-4, atol=1e-6), name


def test_no_part_is_a_single_sample() -> None:
    sizes = [len(labels) for _, labels in learner(64)._parts(batch(7))]
    assert sum(sizes) == 7 and min(sizes) >= 2


def test_a_slowdown_holds_from_its_step_on_in_later_segments_too() -> None:
    slower = {"after_step": 3, "factor": 0.5}
    first = Segment.model_validate({"epochs": 2, "scheduler": "constant", "slowdowns": [slower]})
    second = Segment(epochs=1, scheduler="constant")
    plan = Plan((first, second), steps_per_epoch=3, peak_rate=0.1)
    assert [plan.learning_rate(step) for step in (1, 3, 4, 6, 9)] == [0.1, 0.1, 0.05, 0.05, 0.05]
