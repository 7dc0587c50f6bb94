"""The architectures that can be trained and their published weights, known without torch.

``catalogue.json`` beside this file comes from torchvision: ``python -m worker.training.catalogue_source``
writes it, and a test holds the two equal.
"""

import difflib
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import SpecInvalid

CATALOGUE_FILE = Path(__file__).with_name("catalogue.json")
DEFAULT = "DEFAULT"


@dataclass(frozen=True)
class WeightsEntry:
    """Published weights of one architecture."""

    name: str  #: as torchvision calls them, e.g. ``IMAGENET1K_V1``
    url: str
    file: str  #: the file's name in torch's hub cache
    sha256_prefix: str  #: the first hex digits of the file's hash
    size_bytes: int  #: rounded to about a thousandth of it
    image_size: int  #: pixels a side that they were published for
    is_default: bool


@dataclass(frozen=True)
class Architecture:
    """A torchvision classification network."""

    name: str
    head: str  #: path of the last layer, which is replaced
    in_features: int  #: of that layer
    image_size: int  #: pixels a side where a spec does not say
    min_size: int  #: the smallest images that it takes, pixels a side
    size_multiple: int  #: image sizes must be multiples of this
    num_stages: int  #: how many stages ``model.freeze`` can freeze
    num_params: int  #: with the published head for 1000 classes
    batch_of_one: bool  #: without BatchNorm, a batch of one sample trains at any image size
    weights: tuple[WeightsEntry, ...]

    @property
    def default_weights(self) -> WeightsEntry:
        return next(entry for entry in self.weights if entry.is_default)


def architectures() -> list[Architecture]:
    """Every architecture, in the order of their names."""
    return list(_catalogue().values())


def architecture(name: str) -> Architecture:
    """Raises SpecInvalid that suggests the nearest name."""
    found = _catalogue().get(name)
    if found is None:
        raise SpecInvalid(
            f"There is no architecture {name!r}{_nearest(name, list(_catalogue()))} "
            "GET /models lists all of them.",
            field="model.arch",
        )
    return found


def resolve_weights(arch: str, name: str) -> WeightsEntry:
    """The weights of that name; ``DEFAULT`` is torchvision's choice. Raises SpecInvalid."""
    entries = architecture(arch).weights
    for entry in entries:
        if entry.name == name or (name == DEFAULT and entry.is_default):
            return entry
    names = [entry.name for entry in entries]
    raise SpecInvalid(
        f"{arch} has no weights {name!r}{_nearest(name, names)} It has {', '.join(names)}.",
        field="model.weights",
    )


def hub_path(entry: WeightsEntry) -> Path:
    """Where torch keeps the file: below ``TORCH_HOME``, by default ``~/.cache/torch``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints" / entry.file


def weights_present(entry: WeightsEntry) -> bool:
    """Whether the file is on this machine; its hash is the trainer's business."""
    return hub_path(entry).is_file()


@functools.cache
def _catalogue() -> dict[str, Architecture]:
    content: list[dict[str, Any]] = json.loads(CATALOGUE_FILE.read_text())
    found = [
        Architecture(**{**fields, "weights": tuple(WeightsEntry(**entry) for entry in fields["weights"])})
        for fields in content
    ]
    return {arch.name: arch for arch in sorted(found, key=lambda arch: arch.name)}


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    by_lower = {known.lower(): known for known in names}
    return f"; did you mean {by_lower[near[0]]!r}?" if near else "."
