"""Writes ``models/catalogue.json`` from torchvision: ``python -m worker.training.catalogue_source``.

The API must know architectures and weights without torch, so it reads them from that file.
"""

import json
import re
from dataclasses import asdict
from typing import Any

import torchvision
from torch import nn

from models import catalogue
from worker.training.freezing import stages
from worker.training.network import Architecture, build_empty, default_image_size

#: Without a classifier: those values are NaN in the file.
_UNUSABLE = frozenset({"IMAGENET1K_FEATURES"})

#: The smallest size that a spec may ask for.
_SMALLEST = 16


def main() -> None:
    content = [describe(name) for name in architecture_names()]
    catalogue.CATALOGUE_FILE.write_text(json.dumps(content, indent=1) + "\n")


def architecture_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def describe(name: str) -> dict[str, Any]:
    """The fields of ``models.catalogue.Architecture``."""
    choices = torchvision.models.get_model_weights(name)
    default = choices["DEFAULT"]
    image_size = default_image_size(name)
    classifier = build_empty(Architecture(name, 2, image_size, dropout=0.5))
    multiple = _size_multiple(name, classifier.module)
    min_size = min(size for choice in choices for size in choice.meta["min_size"])
    if multiple > 1:
        min_size = -(-_SMALLEST // multiple) * multiple
    elif name.startswith("swin"):
        min_size = 32  # windows are padded, so the published size is none that it needs
    found = catalogue.Architecture(
        name=name,
        head=classifier.head.layer,
        in_features=classifier.head.in_features,
        image_size=image_size,
        min_size=max(min_size, _SMALLEST),
        size_multiple=multiple,
        num_stages=len(stages(classifier.module, classifier.head)),
        num_params=default.meta["num_params"],
        batch_of_one=not any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in classifier.module.modules()
        ),
        weights=tuple(_entry(choice, default) for choice in choices if choice.name not in _UNUSABLE),
    )
    return asdict(found)


def _size_multiple(name: str, network: nn.Module) -> int:
    """A ViT cuts whole patches; MaxViT's windows of 7 must fit after five halvings."""
    if name.startswith("vit_"):
        projection = network.get_submodule("conv_proj")
        assert isinstance(projection, nn.Conv2d)  # noqa: S101 - narrows the type
        return projection.kernel_size[0]
    return 224 if name.startswith("maxvit") else 1


def _entry(choice: Any, default: Any) -> catalogue.WeightsEntry:
    file = choice.url.rpartition("/")[2]
    prefix = re.search(r"-([0-9a-f]{8,})\.pth$", file)
    return catalogue.WeightsEntry(
        name=choice.name,
        url=choice.url,
        file=file,
        sha256_prefix=prefix[1] if prefix else "",
        size_bytes=round(choice.meta["_file_size"] * 2**20),
        image_size=choice.transforms.keywords["crop_size"],
        is_default=choice is default,
    )


if __name__ == "__main__":
    main()
