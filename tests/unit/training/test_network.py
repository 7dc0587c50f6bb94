"""Heads over every architecture, freezing, and the weights that a job starts from."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from models.catalogue import hub_path, resolve_weights
from models.errors import WeightsInvalid, WeightsUnavailable
from models.job_spec import WeightsFile
from worker.training import pretrained
from worker.training.catalogue_source import architecture_names
from worker.training.freezing import Freezing, stages
from worker.training.network import Architecture, Classifier, build, build_empty, default_image_size, load
from worker.training.pretrained import initial_network

SMALL = Architecture("shufflenet_v2_x0_5", num_classes=3, image_size=32, dropout=0.25)


def without_memory(name: str, num_classes: int = 5) -> Classifier:
    return build_empty(Architecture(name, num_classes, default_image_size(name), dropout=0.25))


@pytest.mark.parametrize("name", architecture_names())
def test_every_head_is_replaced(name: str) -> None:
    classifier = without_memory(name)
    layer = classifier.layer
    assert (layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels) == 5
    dropouts = [part for part in classifier.head_modules[0].modules() if isinstance(part, nn.Dropout)]
    assert [dropout.p for dropout in dropouts] == [0.25]
    assert 1000 not in {parameter.shape[0] for parameter in layer.parameters()}
    # Whatever is not in the state dict would stay without memory after loading.
    buffers = {name for name, _ in classifier.module.named_buffers()}
    assert buffers <= classifier.module.state_dict().keys()
    paths = stages(classifier.module, classifier.head)
    learning = {id(p) for part in classifier.head_modules for p in part.parameters()}
    staged = {id(p) for path in paths for p in classifier.module.get_submodule(path).parameters()}
    loose = [n for n, p in classifier.module.named_parameters() if id(p) not in learning | staged]
    assert set(loose) <= {"class_token", "encoder.pos_embedding"} and not learning & staged


def test_names_are_those_of_the_usual_notebook() -> None:
    notebook = torchvision.models.efficientnet_b1(weights=None)
    notebook.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(1280, 5))
    ours = without_memory("efficientnet_b1").module.state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in notebook.state_dict().items()}


def test_stages_are_counted_from_the_input() -> None:
    classifier = without_memory("mobilenet_v2")
    assert stages(classifier.module, classifier.head) == [f"features.{n}" for n in range(19)]
    classifier = without_memory("vit_b_16")
    assert stages(classifier.module, classifier.head)[:2] == ["conv_proj", "encoder.layers.encoder_layer_0"]


def test_the_start_is_a_function_of_the_seed() -> None:
    one, same, other = build(SMALL, 1), build(SMALL, 1), build(SMALL, 2)
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, same.module.state_dict()[name])
    assert not torch.equal(one.layer.weight, other.layer.weight)


def start(
    weights: Any, root: Path, architecture: Architecture = SMALL, *, downloads: bool = False
) -> Classifier:
    return initial_network(
        architecture,
        weights,
        seed=1,
        data_root=root,
        downloads=downloads,
        on_bytes=lambda done, total: None,
    )


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict()
    return state


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_with_1000_classes_gets_a_new_head(
    published: dict[str, torch.Tensor], tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"weights.{suffix}"
    save_file(published, file) if suffix == "safetensors" else torch.save(published, file)
    classifier = start(WeightsFile(file=file.name), tmp_path)
    state = classifier.module.state_dict()
    for name, tensor in published.items():
        if not name.startswith("fc."):
            assert torch.equal(state[name], tensor)
    assert torch.equal(classifier.layer.weight, build(SMALL, 1).layer.weight)
    assert not any(tensor.is_meta for tensor in state.values())


@pytest.mark.parametrize("wrapping", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["fc.", "fc.1."])
def test_a_file_with_a_fitting_head_keeps_it(
    published: dict[str, torch.Tensor], tmp_path: Path, prefix: str, wrapping: str | None
) -> None:
    head = {f"{prefix}weight": torch.randn(3, 1024), f"{prefix}bias": torch.randn(3)}
    state = {name: tensor for name, tensor in published.items() if not name.startswith("fc.")} | head
    torch.save({wrapping: state} if wrapping else state, tmp_path / "weights.pth")
    classifier = start(WeightsFile(file="weights.pth"), tmp_path)
    assert torch.equal(classifier.layer.weight, head[f"{prefix}weight"])


def test_half_precision_and_strange_memory_become_the_usual(
    published: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    strange = {
        name: tensor.half().to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
        for name, tensor in published.items()
    }
    torch.save(strange, tmp_path / "weights.pth")
    weight = start(WeightsFile(file="weights.pth"), tmp_path).module.state_dict()["conv1.0.weight"]
    assert weight.dtype == torch.float32 and weight.is_contiguous()


def test_mnasnet_loads_from_a_file_without_versions(tmp_path: Path) -> None:
    save_file(torchvision.models.mnasnet0_5(weights=None).state_dict(), tmp_path / "it.safetensors")
    start(WeightsFile(file="it.safetensors"), tmp_path, Architecture("mnasnet0_5", 3, 32, 0.1))


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("densenet121", lambda name: re.sub(r"(denselayer\d+\.\w+?)([12]\.)", r"\1.\2", name)),
        ("googlenet", lambda name: name),  # with auxiliary heads that are not wanted
    ],
)
def test_published_files_of_older_times(
    name: str, rename: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "_has_published_hash", lambda path: True)
    arguments = {"init_weights": False} if name == "googlenet" else {}
    state = torchvision.models.get_model(name, weights=None, **arguments).state_dict()
    file = hub_path(resolve_weights(name, "DEFAULT"))
    file.parent.mkdir(parents=True)
    counted = {key for key in state if key.endswith("num_batches_tracked")}
    torch.save({rename(key): tensor for key, tensor in state.items() if key not in counted}, file)
    loaded = start("DEFAULT", tmp_path, Architecture(name, 3, 32, 0.1)).module.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in loaded.items() if tensor.shape[:1] != (3,))


def test_another_architecture_is_named_by_its_first_tensor(tmp_path: Path) -> None:
    torch.save(torchvision.models.shufflenet_v2_x1_0(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsInvalid, match=r"'stage2\.0\.branch1\.2\.weight' has shape \(58, 24.*\(24, 24"):
        start(WeightsFile(file="other.pth"), tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("conv1.0.weight"),
        lambda state: state.update(extra=torch.zeros(1)),
        lambda state: state.update({"conv1.0.weight": "text"}),
        lambda state: state["conv1.0.weight"].fill_(float("nan")),
    ],
)
def test_missing_and_strange_entries_are_refused(
    published: dict[str, torch.Tensor], tmp_path: Path, damage: Any
) -> None:
    damage(published)
    torch.save(published, tmp_path / "weights.pth")
    with pytest.raises(WeightsInvalid):
        start(WeightsFile(file="weights.pth"), tmp_path)


class Canary:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"weight": Canary(canary)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Canary(canary)))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(WeightsInvalid, match=name):
            start(WeightsFile(file=name), tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", (2**63).to_bytes(8, "little") + b"{}", (4).to_bytes(8, "little") + b"{{{{", b"x" * 999],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_that_lie_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"lie.{suffix}").write_bytes(content)
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        start(WeightsFile(file=f"lie.{suffix}"), tmp_path)


def test_files_outside_the_data_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    torch.save({}, tmp_path / "outside.pth")
    (root / "link.pth").symlink_to(tmp_path / "outside.pth")
    for name in ("../outside.pth", "link.pth", str(tmp_path / "outside.pth")):
        with pytest.raises(WeightsInvalid, match="leads out"):
            start(WeightsFile(file=name), root)
    with pytest.raises(WeightsUnavailable):
        start(WeightsFile(file="absent.pth"), root)


def test_published_weights_come_from_the_cache(
    published: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "shufflenetv2_x0.5-f707e7126e.pth"
    with pytest.raises(WeightsUnavailable, match=f"Put the file from https://.*{name} at {tmp_path}"):
        start("DEFAULT", tmp_path)
    with pytest.raises(WeightsInvalid, match="IMAGENET1K_V1"):
        start("IMAGENET1K_V9", tmp_path)
    file = tmp_path / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    torch.save(published, file)
    with pytest.raises(WeightsInvalid, match="damaged"):
        start("DEFAULT", tmp_path)


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(WeightsUnavailable, match="no route to host"):
        start("DEFAULT", tmp_path, downloads=True)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


def step(classifier: Classifier) -> None:
    optimizer = torch.optim.SGD([p for p in classifier.module.parameters() if p.requires_grad], lr=0.5)
    torch.manual_seed(0)
    classifier.module(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()


def changed(classifier: Classifier, freeze: Any) -> set[str]:
    """Names of the tensors that a training step changes."""
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    freezing = Freezing(classifier, freeze)
    classifier.module.eval()
    freezing.train()
    step(classifier)
    return {n for n, t in classifier.module.state_dict().items() if not torch.equal(t, before[n])}


def test_a_frozen_backbone_does_not_move() -> None:
    assert changed(build(SMALL, 1), "backbone") == {"fc.1.weight", "fc.1.bias"}


def test_frozen_stages_do_not_move_but_the_rest_does() -> None:
    names = changed(build(SMALL, 1), 2)
    assert {name.split(".")[0] for name in names} == {"stage3", "stage4", "conv5", "fc"}
    assert "stage3.0.branch1.1.running_mean" in names
    assert {name.split(".")[0] for name in changed(build(SMALL, 1), "none")} >= {"conv1", "stage2", "fc"}
    assert changed(build(SMALL, 1), 5) == {"fc.1.weight", "fc.1.bias"}


def test_stochastic_depth_of_a_frozen_backbone_is_off() -> None:
    classifier = build(Architecture("efficientnet_b0", 3, 32, 0.0), 1)
    Freezing(classifier, "backbone").train()
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(classifier.module(image), classifier.module(image))


def test_a_network_without_memory_is_filled_whole() -> None:
    given, empty = build(SMALL, 1), build_empty(SMALL)
    load(empty.module, given.module.state_dict())
    image = torch.randn(2, 3, 32, 32)
    given.module.eval(), empty.module.eval()
    assert torch.equal(given.module(image), empty.module(image))
