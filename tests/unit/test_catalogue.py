"""The catalogue that the API reads equals torchvision, and needs no torch."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from models.catalogue import architecture, architectures, hub_path, resolve_weights, weights_present
from models.errors import SpecInvalid
from worker.training.catalogue_source import architecture_names, describe


def test_equals_torchvision() -> None:
    described = {name: describe(name) for name in architecture_names()}
    assert len(described) == 80
    assert {arch.name: asdict(arch) for arch in architectures()} == described, (
        "run `python -m worker.training.catalogue_source`"
    )


def test_needs_no_torch() -> None:
    code = (
        "import sys, models.catalogue; models.catalogue.architectures(); "
        "assert not {'torch', 'torchvision', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_default_architecture() -> None:
    found = architecture("efficientnet_b1")
    assert (found.head, found.in_features, found.num_stages) == ("classifier.1", 1280, 9)
    assert found.image_size == 240 and found.min_size == 16 and not found.batch_of_one
    assert found.default_weights.name == "IMAGENET1K_V2"
    assert found.num_params == 7_794_184


def test_sizes_are_multiples_of_patches() -> None:
    for arch in architectures():
        assert arch.image_size % arch.size_multiple == arch.min_size % arch.size_multiple == 0
        assert 16 <= arch.min_size <= arch.image_size
    assert architecture("vit_h_14").min_size == 28 and architecture("maxvit_t").size_multiple == 224


@pytest.mark.parametrize("name", ["efficientnetb1", "EfficientNet_B1", "eficientnet_b1"])
def test_near_misses_are_suggested(name: str) -> None:
    with pytest.raises(SpecInvalid, match="did you mean 'efficientnet_b1'"):
        architecture(name)


@pytest.mark.parametrize("name", ["os.system", "", "__class__", "../x", "fasterrcnn_resnet50_fpn"])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(SpecInvalid):
        architecture(name)


def test_weights_by_name() -> None:
    default = resolve_weights("mobilenet_v2", "DEFAULT")
    assert default.name == "IMAGENET1K_V2" and default.is_default
    first = resolve_weights("mobilenet_v2", "IMAGENET1K_V1")
    assert (first.file, first.sha256_prefix) == ("mobilenet_v2-b0353104.pth", "b0353104")
    assert 13_000_000 < first.size_bytes < 15_000_000
    with pytest.raises(SpecInvalid, match="It has IMAGENET1K_V1, IMAGENET1K_V2"):
        resolve_weights("mobilenet_v2", "V1")
    for arch in architectures():
        assert [entry.is_default for entry in arch.weights].count(True) == 1
        assert all(len(entry.sha256_prefix) >= 8 for entry in arch.weights)


def test_the_cache_is_where_torch_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = resolve_weights("mobilenet_v2", "IMAGENET1K_V1")
    monkeypatch.delenv("TORCH_HOME", raising=False)
    for variable in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert hub_path(entry) == Path(torch.hub.get_dir()) / "checkpoints" / entry.file
    assert not weights_present(entry)
    hub_path(entry).parent.mkdir(parents=True)
    hub_path(entry).write_bytes(b"")
    assert weights_present(entry)
