"""The model as an ONNX file says what the service says, to a runtime that knows nothing of torch."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from models.errors import OnnxMissing, OnnxUnsupported
from tests.unit.training.test_portable import CLASSES, content_of, spec_of, tell_apart
from worker.training import materialise, onnx_model
from worker.training.images import Normalisation, decode, evaluation_transform
from worker.training.inference import TrainedModel
from worker.training.network import Architecture, build
from worker.training.onnx_model import write_onnx
from worker.training.portable import manifest


@pytest.fixture(scope="module")
def pixels_of(painted: Path) -> Any:
    files = sorted((painted / "val").rglob("*.*"))
    return lambda size: torch.stack([evaluation_transform(size)(decode(file.read_bytes())) for file in files])


def trained(arch: str, size: int, pixels: torch.Tensor) -> dict[str, Any]:
    spec = spec_of(arch, size)
    classifier = build(Architecture.of(spec, len(CLASSES)), seed=3)
    tell_apart(classifier, Normalisation(torch.device("cpu"), torch.contiguous_format)(pixels))
    return content_of(spec, dict(classifier.module.state_dict()))


def written(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    write_onnx(file, content, "job_1", "ckpt_1")
    return file.getvalue()


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("mobilenet_v3_small", 32),
        ("resnet18", 40),  # gets its dropout from us
        ("squeezenet1_1", 64),  # decides by a convolution
        pytest.param("googlenet", 32, marks=pytest.mark.long),  # has heads of its own for training
        pytest.param("swin_t", 64, marks=pytest.mark.long),  # computes with shapes
    ],
)
def test_it_says_what_the_service_says(pixels_of: Any, arch: str, size: int) -> None:
    pixels = pixels_of(size)
    content = trained(arch, size, pixels)
    service = TrainedModel(content)
    expected = np.stack([service.probabilities(each).numpy() for each in pixels])
    session = onnxruntime.InferenceSession(written(content))
    [said] = session.run(None, {"pixels": pixels.numpy()})
    assert np.abs(said - expected).max() < 1e-4
    assert (said.argmax(1) == expected.argmax(1)).all()
    assert expected.std(0).max() > 0.05, "the images are told apart"
    [alone] = session.run(["probabilities"], {"pixels": pixels[:1].numpy()})
    assert np.abs(alone - expected[:1]).max() < 1e-4, "any number of images"
    described = json.loads(session.get_modelmeta().custom_metadata_map["manifest"])
    assert described == json.loads(json.dumps(manifest(content, "job_1", "ckpt_1")))
    assert described["classes"] == CLASSES


@pytest.mark.long
def test_the_same_model_is_the_same_file(pixels_of: Any) -> None:
    """So that an ETag outlives the cache."""
    content = trained("mobilenet_v3_small", 32, pixels_of(32))
    assert written(content) == written(content)


def test_what_does_not_fit_into_such_a_file(pixels_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "MAX_BYTES", 1000)
    with pytest.raises(OnnxUnsupported, match=r"mobilenet_v3_small.*take the zip"):
        written(trained("mobilenet_v3_small", 32, pixels_of(32)))


def test_what_the_converter_does_not_know(pixels_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.onnx.errors.OnnxExporterError("no such operator")

    content = trained("mobilenet_v3_small", 32, pixels_of(32))
    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(OnnxUnsupported, match="cannot be converted"):
        written(content)


@pytest.mark.parametrize("module", ["onnx", "onnxscript"])
def test_without_the_extra(
    pixels_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    content = trained("mobilenet_v3_small", 32, pixels_of(32))
    monkeypatch.setattr(materialise, "_whole", lambda *_: content)
    monkeypatch.setitem(sys.modules, module, None)
    file = {"path": "x", "sha256": "x", "size_bytes": 1}
    request = {
        "storage_url": tmp_path.as_uri(), "kind": "onnx", "job_id": "job_1", "checkpoint_id": "ckpt_1",
        "checkpoint": file, "frozen": None, "destination": str(tmp_path / "model.onnx"),
    }  # fmt: skip
    answer = materialise.answer(request)
    assert answer == {"code": OnnxMissing.code, "message": OnnxMissing().message}
    assert "onnx extra" in answer["message"] and not list(tmp_path.iterdir())
