"""The small parts: hashes, copies, pixels, state, outcomes."""

import errno
import hashlib
import io
import math
import os
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image

from models.errors import DatasetInvalid, NonFiniteLoss
from models.job_spec import EarlyStopping
from tests.independent import weights_sha256 as contract_weights_sha256
from worker.messages import Failed, Finished, StepMetrics, Stopped
from worker.training.images import Normalisation, evaluation_transform, training_transform
from worker.training.images import decode as decode_image
from worker.training.manifest import ManifestFile, expect_bytes
from worker.training.metering import Meter
from worker.training.outcome import outcome_of
from worker.training.randomness import seed_sample
from worker.training.session import CancelRequested, Session, StopRequested
from worker.training.snapshot import ALIGNMENT, Snapshot
from worker.training.state import Patience, RunState
from worker.training.weights_hash import weights_sha256
from worker.wire import LineBuffer, decode


def test_the_hash_of_weights_is_that_of_the_contract() -> None:
    state = {
        "b": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "a": torch.tensor(3),
        "c": torch.randn(4, 2).t().to(torch.bfloat16),
        "empty": torch.empty(0),
    }
    assert weights_sha256(state) == contract_weights_sha256(state)
    reordered = {name: tensor.contiguous() for name, tensor in reversed(state.items())}
    assert weights_sha256(reordered) == weights_sha256(state)


def test_snapshots_keep_values_strides_and_versions() -> None:
    network = torch.nn.BatchNorm2d(3)
    tree = {
        "state": network.state_dict(),
        "last": [torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.randn(4, 4)[::2]],
        "plain": (1, "text", None),
    }
    snapshot = Snapshot()
    copy = snapshot.take(tree)
    assert copy["state"]._metadata == network.state_dict()._metadata
    assert copy["last"][0].stride() == tree["last"][0].stride()
    assert torch.equal(copy["last"][1], tree["last"][1]) and copy["plain"] == tree["plain"]
    tensors = [*copy["state"].values(), *copy["last"]]
    assert all(tensor.storage_offset() * tensor.element_size() % ALIGNMENT == 0 for tensor in tensors)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 2  # float32 and int64
    kept = copy["last"][0].clone()
    tree["last"][0].zero_()
    assert torch.equal(copy["last"][0], kept)
    again = snapshot.take(tree)
    assert again["last"][0].data_ptr() == copy["last"][0].data_ptr()  # the buffers are reused
    assert Snapshot(contiguous=True).take(tree)["last"][0].is_contiguous()


def image(width: int = 60, height: int = 40) -> Image.Image:
    pixels = torch.arange(width * height * 3).reshape(height, width, 3).to(torch.uint8)
    return Image.fromarray(pixels.numpy())


def test_evaluation_takes_the_centre() -> None:
    pixels = evaluation_transform(28)(image(64, 32))
    assert pixels.shape == (3, 28, 28) and pixels.dtype == torch.uint8
    # The shorter side becomes round(28 * 256 / 224) = 32: nothing is resized, 2 rows are cut off.
    assert pixels[0, 0, 0] == image(64, 32).getpixel((18, 2))[0]


@pytest.mark.parametrize("augment", ["flip", "crop", "trivial"])
def test_training_transforms_are_a_function_of_the_sample(augment: Any) -> None:
    transform = training_transform(24, augment)

    def look(epoch: int, index: int) -> torch.Tensor:
        seed_sample(3, epoch, index)
        return transform(image())

    assert look(1, 4).shape == (3, 24, 24) and look(1, 4).dtype == torch.uint8
    assert torch.equal(look(1, 4), look(1, 4))
    assert len({look(epoch, index).numpy().tobytes() for epoch in range(4) for index in range(4)}) > 1


def test_without_augmentation_training_sees_what_validation_sees() -> None:
    assert torch.equal(training_transform(24, "none")(image()), evaluation_transform(24)(image()))


def test_normalisation_is_that_of_imagenet() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    normalised = Normalisation(torch.device("cpu"), torch.channels_last)(pixels)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(normalised, expected, atol=1e-5)


def test_animations_give_their_first_frame() -> None:
    sink = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(sink.getvalue()).getpixel((0, 0))[0] > 200


def test_changed_bytes_are_told_by_length_or_hash() -> None:
    file = ManifestFile("a/b.png", 3, 0, hashlib.sha256(b"abc").hexdigest(), 0, "train")
    expect_bytes(file, b"abc")
    for content in (b"abd", b"abcd", b""):
        with pytest.raises(Exception, match=r"a/b\.png"):
            expect_bytes(file, content)


def test_patience() -> None:
    rule, patience = EarlyStopping(patience=2, min_delta=0.1), Patience()
    for loss in (1.0, 0.95, 0.85):
        patience.see(loss, rule)
        assert not patience.exhausted
    assert patience.best_loss == 0.85 and patience.epochs_without == 0
    patience.see(0.8, rule), patience.see(0.9, rule)
    assert patience.exhausted
    patience.renew()
    assert not patience.exhausted and patience.best_loss == 0.85


def test_the_best_epoch_is_the_first_of_equals() -> None:
    state = RunState()
    for loss in (0.5, 0.4, 0.4, 0.6):
        state.end_step()
        assert state.epoch == state.epochs_done + 1 and state.val_loss is None
        state.end_epoch(loss, 0.9)
        assert state.epoch == state.epochs_done and state.val_loss == loss
    assert (state.best.epoch, state.best.val_loss) == (2, 0.4)
    assert RunState.from_dict(state.to_dict()) == state


def test_sums_do_not_depend_on_when_they_are_flushed() -> None:
    losses = [torch.tensor(value) for value in (0.1, 0.7, 1e-3, 2.3)]
    sums = []
    for flush_after in (0, 1, 2):
        reading, outbox = os.pipe()
        state = RunState()
        meter = Meter(Session(reading, outbox, 60.0), state)
        for place, loss in enumerate(losses):
            state.end_step()
            meter.add(0.1, loss, torch.tensor(1), 3)
            if flush_after and place % flush_after == 0:
                meter.flush()
        meter.flush()
        sums.append(state.sums)
        rows = [
            row
            for line in LineBuffer().feed(os.read(reading, 65536))
            if isinstance(message := decode(line), StepMetrics)
            for row in message.rows
        ]
        assert [row.step for row in rows] == [1, 2, 3, 4]
        assert [row.loss for row in rows] == [float(loss) for loss in losses]
    assert sums[0] == sums[1] == sums[2] and sums[0].samples == 12


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_without_bounds_is_named_by_its_step(loss: float) -> None:
    reading, outbox = os.pipe()
    state = RunState()
    meter = Meter(Session(reading, outbox, 60.0), state)
    for value in (0.5, loss, 0.4):
        state.end_step()
        meter.add(0.1, torch.tensor(value), torch.tensor(0), 2)
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        meter.flush()
    assert b'"step": 1' in os.read(reading, 65536)


def raises(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StopRequested(), Stopped()),
        (CancelRequested(), Stopped()),
        (DatasetInvalid("bad"), Failed("dataset_invalid", "bad", retryable=False)),
        (ValueError("odd\nmore"), Failed("trainer_error", "ValueError: odd", retryable=True)),
        (KeyboardInterrupt(), Failed("trainer_error", "KeyboardInterrupt: ", retryable=True)),
    ],
)
def test_every_end_has_a_message(error: BaseException, expected: Any) -> None:
    assert outcome_of(lambda: raises(error)) == expected


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        OSError(errno.ENOMEM, "x"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_memory_has_a_cause_of_its_own(error: BaseException) -> None:
    outcome = outcome_of(lambda: raises(error))
    assert isinstance(outcome, Failed) and outcome.code == "out_of_memory" and outcome.retryable


def test_a_good_end_passes() -> None:
    assert outcome_of(lambda: Finished("hash")) == Finished("hash")
