"""What leaves the service as a model predicts as validation did, by code that shares nothing with it."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models.job_spec import JobSpec
from tests.independent import weights_sha256 as weights_sha256_as_documented
from worker.messages import Slot
from worker.training.catalogue_source import architecture_names
from worker.training.data import Batch
from worker.training.images import Normalisation, decode, evaluation_transform
from worker.training.inference import TrainedModel
from worker.training.learner import Learner
from worker.training.network import (
    Architecture,
    Classifier,
    _ParametersWithoutMemory,
    build,
    build_empty,
    default_image_size,
)
from worker.training.numerics import Numerics
from worker.training.portable import manifest, write_model_zip
from worker.training.portable_predict import Model, build_network, read_safetensors

CLASSES = ["brick", "sky", "Ünlü 🌷"]
SLOT = Slot("cpu", threads=1, kind="test")


def content_of(spec: JobSpec, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """As much of a whole checkpoint as a model is made of."""
    fingerprint = {"numerics": Numerics.resolve(spec, SLOT).to_json(), "torch": "x"}
    return {
        "spec": spec.to_json(), "classes": CLASSES, "model_state_dict": weights, "fingerprint": fingerprint,
        "epoch": 2, "step": 10, "val_loss": 0.5,
    }  # fmt: skip


def spec_of(arch: str, image_size: int, **hyperparameters: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "dataset": {"path": "x"},
            "model": {"arch": arch, "weights": None, "freeze": "none"},
            "hyperparameters": {"image_size": image_size, **hyperparameters},
        }
    )


def unpacked(content: dict[str, Any], folder: Path) -> Path:
    packed = io.BytesIO()
    write_model_zip(packed, content, "job_1", "ckpt_1")
    zipfile.ZipFile(packed).extractall(folder)
    return folder


@torch.no_grad()
def tell_apart(classifier: Classifier, images: torch.Tensor) -> None:
    """Random networks see next to no difference between images, so that any mistake would be a small one."""
    for module in classifier.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of the images at hand
    classifier.module.train()
    classifier.module(images)
    logits = classifier.module.eval()(images)
    scale = 1.0 / (logits - logits.mean(0)).std()
    classifier.layer.weight.mul_(scale)
    assert classifier.layer.bias is not None
    classifier.layer.bias.mul_(scale).sub_(scale * logits.mean(0))


@pytest.fixture(scope="module")
def files(painted: Path) -> list[Path]:
    return sorted((painted / "val").rglob("*.*"))


@pytest.mark.parametrize(
    ("arch", "size", "hyperparameters"),
    [
        ("mobilenet_v3_small", 32, {}),
        ("resnet18", 40, {}),  # gets its dropout from us
        ("squeezenet1_1", 64, {}),  # decides by a convolution
        ("googlenet", 32, {}),  # has heads of its own for training
        ("mnasnet0_5", 32, {}),  # asks state dicts for their version
        ("mobilenet_v2", 48, {"precision": "bfloat16"}),
    ],
)
def test_all_three_see_the_same(
    files: list[Path], tmp_path: Path, arch: str, size: int, hyperparameters: dict[str, Any]
) -> None:
    """Validation in batches, the process behind POST predict, and the program in the zip."""
    spec = spec_of(arch, size, **hyperparameters)
    classifier = build(Architecture.of(spec, len(CLASSES)), seed=3)
    pixels = torch.stack([evaluation_transform(size)(decode(path.read_bytes())) for path in files])
    tell_apart(classifier, Normalisation(torch.device("cpu"), torch.contiguous_format)(pixels))
    weights = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    logits: list[torch.Tensor] = []
    learner = Learner(classifier, spec, Numerics.resolve(spec, SLOT), torch.device("cpu"))
    learner.network.register_forward_hook(lambda module, given, said: logits.append(said))
    labels = torch.zeros(len(files), dtype=torch.int64)
    learner.evaluate([Batch(pixels[:4], labels[:4]), Batch(pixels[4:], labels[4:])])
    validated = torch.cat(logits).float().softmax(1)

    content = content_of(spec, weights)
    service, program = TrainedModel(content), Model(unpacked(content, tmp_path))
    asked = torch.stack([service.probabilities(service.pixels(decode(p.read_bytes()))) for p in files])
    alone = torch.stack([program.probabilities(Image.open(path)) for path in files])
    assert torch.equal(asked, alone)
    assert (asked.argmax(1) == validated.argmax(1)).all()
    # The size of a batch decides last bits, which random networks let grow (a trained one is held to 1e-5 in
    # tests/integration/test_model_outputs.py), and in bfloat16 those are the third digit.
    closeness = 1e-4 if not hyperparameters else 2e-2
    print(f"{arch}: {(asked - validated).abs().max():.1e}, images differ by {asked.std(0).max():.2f}")
    assert (asked - validated).abs().max() < closeness
    assert asked.std(0).max() > 0.05, "the images are told apart"
    best = service.predict(service.pixels(decode(files[0].read_bytes())), 2)
    assert best == program.predict(Image.open(files[0]), 2)
    assert [each["probability"] for each in best] == sorted(asked[0].tolist())[:0:-1]
    assert all(CLASSES[each["index"]] == each["class"] for each in best)


@pytest.mark.parametrize("arch", architecture_names())
def test_every_architecture_is_built_again(arch: str) -> None:
    size = default_image_size(arch)
    spec = spec_of(arch, size)
    weights = dict(build_empty(Architecture.of(spec, len(CLASSES))).module.state_dict())
    described = json.loads(json.dumps(manifest(content_of(spec, {}), "job_1", "ckpt_1")))
    with _ParametersWithoutMemory():
        rebuilt = build_network(described, weights).state_dict()
    assert {n: t.shape for n, t in rebuilt.items()} == {n: t.shape for n, t in weights.items()}


@pytest.fixture
def content() -> dict[str, Any]:
    spec = spec_of("shufflenet_v2_x0_5", 32)
    return content_of(spec, dict(build(Architecture.of(spec, 3), seed=3).module.state_dict()))


def test_the_manifest_says_what_one_needs(content: dict[str, Any], tmp_path: Path) -> None:
    folder = unpacked(content, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "manifest.json", "predict.py"}
    said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert said["classes"] == CLASSES and said["job_id"] == "job_1" and said["checkpoint_id"] == "ckpt_1"
    assert said["arch"] == "shufflenet_v2_x0_5" and said["dropout"] == 0.3 and said["image_size"] == 32
    assert said["preprocessing"] == {
        "resize_shorter_side": 37, "interpolation": "bilinear", "center_crop": 32,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert said["fingerprint"] == content["fingerprint"]
    tensors = read_safetensors(folder / "model.safetensors")
    assert said["weights_sha256"] == weights_sha256_as_documented(tensors)


def test_the_same_model_is_the_same_file(content: dict[str, Any]) -> None:
    """So that an ETag outlives the cache."""
    packed = [io.BytesIO(), io.BytesIO()]
    for each in packed:
        write_model_zip(each, content, "job_1", "ckpt_1")
    assert packed[0].getvalue() == packed[1].getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1], lambda whole: b"", lambda whole: b"\xff" * 100,
        lambda whole: (2**63).to_bytes(8, "little") + whole[8:], lambda whole: whole[:200],
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(
    content: dict[str, Any], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = unpacked(content, tmp_path) / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError):
        Model(tmp_path)


def test_weights_of_another_network_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = unpacked(content, tmp_path) / "manifest.json"
    file.write_text(file.read_text(encoding="utf-8").replace("shufflenet_v2_x0_5", "resnet18"))
    with pytest.raises(ValueError, match="resnet18"):
        Model(tmp_path)
