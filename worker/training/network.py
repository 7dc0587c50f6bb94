"""A torchvision classifier with a head of its own for the dataset's classes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from models.errors import WeightsInvalid
from models.job_spec import JobSpec
from worker.training.randomness import seed_initialisation

#: Classes of the published weights, by which the head is recognised.
PUBLISHED_CLASSES = 1000

#: Auxiliary heads train against their own losses, which no published recipe for fine-tuning uses.
_WITHOUT_AUXILIARY_HEADS = {
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
}


@dataclass(frozen=True)
class Head:
    """Where an architecture decides: its last layer, and the dropout directly before it if it has one."""

    layer: str  #: path of the last layer as torchvision builds it
    dropout: str | None
    in_features: int

    @property
    def new_layer(self) -> str:
        """The path of the layer that replaces it: a dropout of ours comes before it where none was."""
        return self.layer if self.dropout else f"{self.layer}.1"


@dataclass(frozen=True)
class Architecture:
    """What a network is built from, apart from its weights."""

    name: str
    num_classes: int
    image_size: int
    dropout: float

    @classmethod
    def of(cls, spec: JobSpec, num_classes: int) -> Self:
        return cls(
            name=spec.model.arch,
            num_classes=num_classes,
            image_size=spec.hyperparameters.image_size or default_image_size(spec.model.arch),
            dropout=spec.model.dropout,
        )


class _ParametersWithoutMemory(TorchFunctionMode):
    """Leaves new parameters and buffers unallocated, for weights that are loaded in a moment anyway.

    ``torch.device("meta")`` would do the same to arithmetic in constructors, which RegNet's needs.
    """

    _ALLOCATING = frozenset({torch.empty, torch.zeros, torch.ones})
    # Filling what has no memory costs 0.1 s for EfficientNet-B1, and gives nothing.
    _FILLING = frozenset({"normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._ALLOCATING and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif args and getattr(func, "__name__", "") in self._FILLING and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def default_image_size(name: str) -> int:
    """Pixels a side that the architecture's default weights were published for."""
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    size: int = weights.transforms.keywords["crop_size"]
    return size


def constructor_arguments(name: str, image_size: int) -> dict[str, Any]:
    """What torchvision's constructor is told beside the number of classes."""
    arguments: dict[str, Any] = dict(_WITHOUT_AUXILIARY_HEADS.get(name, {}))
    if name.startswith("vit_"):
        arguments["image_size"] = image_size
    elif name.startswith("maxvit"):
        arguments["input_size"] = (image_size, image_size)
    return arguments


def torchvision_network(name: str, image_size: int) -> nn.Module:
    """The architecture as published, randomly initialised from the global generator."""
    arguments = constructor_arguments(name, image_size)
    network: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
    return network


def find_head(network: nn.Module) -> Head:
    """The last layer that gives one output a published class: a Linear, or SqueezeNet's convolution."""
    layers = [
        (path, module)
        for path, module in network.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == PUBLISHED_CLASSES)
        or (isinstance(module, nn.Conv2d) and module.out_channels == PUBLISHED_CLASSES)
    ]
    path, layer = layers[-1]
    in_features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return Head(path, _dropout_before(network, path), int(in_features))


@dataclass(frozen=True)
class Classifier:
    """A network whose head decides between the dataset's classes."""

    module: nn.Module
    head: Head

    @property
    def layer(self) -> nn.Linear | nn.Conv2d:
        layer = self.module.get_submodule(self.head.new_layer)
        assert isinstance(layer, nn.Linear | nn.Conv2d)  # noqa: S101 - narrows the type
        return layer

    @property
    def head_modules(self) -> list[nn.Module]:
        """The last layer and the dropout before it."""
        paths = [self.head.dropout, self.head.layer] if self.head.dropout else [self.head.layer]
        return [self.module.get_submodule(path) for path in paths]


def build(architecture: Architecture, seed: int) -> Classifier:
    """A random start that is a function of ``seed``."""
    seed_initialisation(seed)
    classifier = _assemble(architecture)
    # Drawn once more, so that the head starts alike whether or not a backbone was drawn before it.
    seed_initialisation(seed)
    classifier.layer.reset_parameters()
    return classifier


def build_empty(architecture: Architecture) -> Classifier:
    """No memory for parameters yet: to be filled by ``load``, and several times faster than a draw."""
    with _ParametersWithoutMemory():
        return _assemble(architecture)


def new_head_tensors(classifier: Classifier, seed: int) -> dict[str, torch.Tensor]:
    """The head's random start under its names in the state dict, as ``build`` draws it."""
    empty = classifier.layer
    outputs = empty.out_features if isinstance(empty, nn.Linear) else empty.out_channels
    seed_initialisation(seed)
    layer = _layer_like(empty, outputs)
    return {f"{classifier.head.new_layer}.{name}": tensor for name, tensor in layer.state_dict().items()}


def _assemble(architecture: Architecture) -> Classifier:
    network = torchvision_network(architecture.name, architecture.image_size)
    head = find_head(network)
    layer = _layer_like(network.get_submodule(head.layer), architecture.num_classes)
    if head.dropout:
        dropout = network.get_submodule(head.dropout)
        assert isinstance(dropout, nn.Dropout)  # noqa: S101 - narrows the type
        dropout.p = architecture.dropout
        _put(network, head.layer, layer)
    else:
        _put(network, head.layer, nn.Sequential(nn.Dropout(architecture.dropout), layer))
    return Classifier(network, head)


def load(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the network these tensors as its own, without a copy. Raises WeightsInvalid.

    The error names the first tensor that does not fit, with both shapes.
    """
    expected = network.state_dict()
    for name, place in expected.items():
        if name not in tensors:
            raise WeightsInvalid(f"The weights have no tensor {name!r}; the architecture needs it.")
        if tensors[name].shape != place.shape:
            raise WeightsInvalid(
                f"Tensor {name!r} has shape {tuple(tensors[name].shape)} in the weights, but "
                f"{tuple(place.shape)} in the architecture."
            )
    for name in tensors:
        if name not in expected:
            raise WeightsInvalid(f"The weights have a tensor {name!r} that the architecture does not know.")
    # In one order of elements, whatever the file's: it decides which kernels run, and so the last bits.
    given = OrderedDict((name, tensors[name].to(expected[name].dtype).contiguous()) for name in expected)
    given._metadata = expected._metadata  # type: ignore[attr-defined]  # MNASNet asks for its version
    network.load_state_dict(given, strict=True, assign=True)


def _layer_like(layer: nn.Module, num_classes: int) -> nn.Linear | nn.Conv2d:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, num_classes)
    assert isinstance(layer, nn.Conv2d)  # noqa: S101
    return nn.Conv2d(layer.in_channels, num_classes, kernel_size=1)


def _dropout_before(network: nn.Module, layer: str) -> str | None:
    parent_path, _, own_name = layer.rpartition(".")
    siblings = list(network.get_submodule(parent_path).named_children())
    place = [name for name, _ in siblings].index(own_name)
    if place == 0 or not isinstance(siblings[place - 1][1], nn.Dropout):
        return None
    return f"{parent_path}.{siblings[place - 1][0]}".removeprefix(".")


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
