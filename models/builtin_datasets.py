"""The datasets that torchvision itself offers, told without torchvision: the API has to know them, too.

Those that need no account and no hands to fetch, have classes, and give their images away through the public
interface of torchvision. Where there is a validation split of their own it validates, and the test split is
left to whoever wants to test; else the test split validates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

BuiltinName = Literal[
    "cifar10", "cifar100", "dtd", "eurosat", "fashionmnist", "flowers102", "food101", "gtsrb", "imagenette",
    "kmnist", "mnist", "stl10", "svhn",
]  # fmt: skip

NAMES: tuple[str, ...] = get_args(BuiltinName)
#: Below the uploads: what was fetched and read once, for every job and dataset that names it.
FOLDER = ".builtin"
#: Below that: what is being fetched and read, each in a folder of its own.
WORK = ".work"


@dataclass(frozen=True)
class Builtin:
    """One of them. ``name`` is that of torchvision's class in small letters."""

    kind: str  #: torchvision's class
    files: str  #: what that looks for below its root
    train: Mapping[str, Any]  #: the class's arguments for each split
    val: Mapping[str, Any] | None  #: None where jobs split it
    has_files: bool = False  #: images are files that can be taken over as they are
    classes: tuple[str, ...] | None = None  #: where torchvision's class has no names for them


_TRAIN, _TEST = {"train": True}, {"train": False}
_SPLIT_TRAIN, _SPLIT_VAL, _SPLIT_TEST = {"split": "train"}, {"split": "val"}, {"split": "test"}

BUILTINS: Mapping[str, Builtin] = {
    "cifar10": Builtin("CIFAR10", "cifar-10-batches-py", _TRAIN, _TEST),
    "cifar100": Builtin("CIFAR100", "cifar-100-python", _TRAIN, _TEST),
    "dtd": Builtin("DTD", "dtd/dtd", _SPLIT_TRAIN, _SPLIT_VAL, has_files=True),
    "eurosat": Builtin("EuroSAT", "eurosat/2750", {}, None, has_files=True),
    "fashionmnist": Builtin("FashionMNIST", "FashionMNIST/raw", _TRAIN, _TEST),
    "flowers102": Builtin("Flowers102", "flowers-102", _SPLIT_TRAIN, _SPLIT_VAL, has_files=True),
    "food101": Builtin("Food101", "food-101", _SPLIT_TRAIN, _SPLIT_TEST, has_files=True),
    "gtsrb": Builtin(
        "GTSRB", "gtsrb", _SPLIT_TRAIN, _SPLIT_TEST, classes=tuple(f"{sign:02}" for sign in range(43))
    ),
    "imagenette": Builtin("Imagenette", "imagenette2", _SPLIT_TRAIN, _SPLIT_VAL, has_files=True),
    "kmnist": Builtin("KMNIST", "KMNIST/raw", _TRAIN, _TEST),
    "mnist": Builtin("MNIST", "MNIST/raw", _TRAIN, _TEST),
    "stl10": Builtin("STL10", "stl10_binary", _SPLIT_TRAIN, _SPLIT_TEST),
    "svhn": Builtin("SVHN", "train_32x32.mat", _SPLIT_TRAIN, _SPLIT_TEST, classes=tuple("0123456789")),
}


def folder_of(name: str) -> str:
    """Where its images are once it was read, below the uploads."""
    return f"{FOLDER}/{name}"


def is_present(name: str, data_root: Path, uploads: Path) -> bool:
    """Whether nothing has to be fetched: it was read before, or torchvision's files are on the data root."""
    return (uploads / folder_of(name)).is_dir() or (data_root / BUILTINS[name].files).exists()


def missing(name: str) -> str:
    """What to do about one that is not present."""
    builtin = BUILTINS[name]
    return (
        f"The dataset {name} is not on this machine and downloads are off: put torchvision's files "
        f"({builtin.files}, as torchvision.datasets.{builtin.kind} with the data root for its root leaves "
        "them) on the data root, or set PERDURE_DOWNLOADS=true."
    )
