"""Tiny files as torchvision's own datasets have them on disk: two classes, of each two images and one more.

The formats are the real ones; where torchvision compares sums of whole files, it is given those of these.
"""

import gzip
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

#: (split, label) of each image, in the order of the files.
TRAIN, VAL = [0, 0, 1, 1], [0, 1]
SPLITS = {"train": TRAIN, "test": VAL, "val": VAL}


def pixels(labels: list[int], *shape: int, seed: int = 0) -> "np.ndarray":
    return np.random.default_rng([seed, len(labels)]).integers(0, 256, (len(labels), *shape), np.uint8)


def idx_files(folder: Path) -> None:
    """MNIST and those that are laid out like it."""
    for side, labels in (("train", TRAIN), ("t10k", VAL)):
        images = pixels(labels, 28, 28)
        head = b"\0\0\x08\x03" + b"".join(size.to_bytes(4) for size in images.shape)
        put(folder / f"{side}-images-idx3-ubyte", head + images.tobytes())
        put(folder / f"{side}-labels-idx1-ubyte", b"\0\0\x08\x01" + len(labels).to_bytes(4) + bytes(labels))


def gzipped_idx_files(folder: Path) -> dict[str, str]:
    """As they are fetched; their MD5 sums by name."""
    idx_files(folder)
    sums = {}
    for path in sorted(folder.iterdir()):
        archive = put(path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes()))
        path.unlink()
        sums[archive.name] = md5(archive)
    return sums


def _mnist(kind: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    return lambda root, _: idx_files(root / kind / "raw")


def _cifar(kind: str, key: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def lay_out(root: Path, patch: pytest.MonkeyPatch) -> None:
        cls = getattr(torchvision.datasets, kind)
        folder = root / cls.base_folder

        def batch(name: str, labels: list[int]) -> list[str]:
            content = {"data": pixels(labels, 3072), key: labels}
            return [name, md5(put(folder / name, pickle.dumps(content)))]

        patch.setattr(cls, "train_list", [batch(cls.train_list[0][0], TRAIN)])
        patch.setattr(cls, "test_list", [batch(cls.test_list[0][0], VAL)])
        names = put(folder / cls.meta["filename"], pickle.dumps({cls.meta["key"]: ["cat", "dog"]}))
        patch.setattr(cls, "meta", cls.meta | {"md5": md5(names)})

    return lay_out


def _svhn(root: Path, patch: pytest.MonkeyPatch) -> None:
    cls, known = torchvision.datasets.SVHN, {}
    for side in ("train", "test"):
        url, name, _ = cls.split_list[side]
        labels = [label or 10 for label in SPLITS[side]]  # its zeros are tens
        content = {"X": pixels(labels, 32, 32, 3).transpose(1, 2, 3, 0), "y": np.array(labels)[:, None]}
        savemat(root / name, content)
        known[side] = [url, name, md5(root / name)]
    patch.setattr(cls, "split_list", known)


def _stl10(root: Path, patch: pytest.MonkeyPatch) -> None:
    cls, folder = torchvision.datasets.STL10, root / "stl10_binary"
    for side, attribute in (("train", "train_list"), ("test", "test_list")):
        labels = SPLITS[side]
        files = [
            put(folder / f"{side}_X.bin", pixels(labels, 3, 96, 96).tobytes()),
            put(folder / f"{side}_y.bin", bytes(label + 1 for label in labels)),
        ]
        patch.setattr(cls, attribute, [[path.name, md5(path)] for path in files])
    put(folder / "class_names.txt", b"airplane\nbird\n")


def _flowers102(root: Path, patch: pytest.MonkeyPatch) -> None:
    cls, folder = torchvision.datasets.Flowers102, root / "flowers-102"
    for number in range(len(TRAIN + VAL)):
        photograph(folder / f"jpg/image_{number + 1:05}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.array(TRAIN + VAL) + 1})
    savemat(folder / "setid.mat", {"trnid": [1, 2, 3, 4], "valid": [5, 6], "tstid": [1]})
    known = {
        name: (file, md5(folder / file) if name != "image" else "")
        for name, (file, _) in cls._file_dict.items()
    }
    patch.setattr(cls, "_file_dict", known)


def _dtd(root: Path, _: pytest.MonkeyPatch) -> None:
    for side in ("train", "val"):
        names = [f"{('banded', 'bubbly')[label]}/{side}_{n}.jpg" for n, label in enumerate(SPLITS[side])]
        for number, name in enumerate(names):
            photograph(root / "dtd/dtd/images" / name, number)
        put(root / f"dtd/dtd/labels/{side}1.txt", "\n".join(names).encode())


def _eurosat(root: Path, _: pytest.MonkeyPatch) -> None:
    for number, label in enumerate(TRAIN + VAL):
        name = ("Forest", "River")[label]
        photograph(root / f"eurosat/2750/{name}/{name}_{number}.jpg", number)


def _food101(root: Path, _: pytest.MonkeyPatch) -> None:
    for side in ("train", "test"):
        listed: dict[str, list[str]] = {"apple_pie": [], "waffles": []}
        for number, label in enumerate(SPLITS[side]):
            name = list(listed)[label]
            listed[name].append(f"{name}/{side}{number}")
            photograph(root / f"food-101/images/{name}/{side}{number}.jpg", number)
        put(root / f"food-101/meta/{side}.json", json.dumps(listed).encode())


def _gtsrb(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "gtsrb/GTSRB"
    for number, label in enumerate(TRAIN):
        photograph(folder / f"Training/{label:05}/{number:05}.ppm", number)
    rows = ["Filename;Width;ClassId"]
    for number, label in enumerate(VAL):
        photograph(folder / f"Final_Test/Images/{number:05}.ppm", 10 + number)
        rows.append(f"{number:05}.ppm;8;{label}")
    put(root / "gtsrb/GT-final_test.csv", "\n".join(rows).encode())


def _imagenette(root: Path, _: pytest.MonkeyPatch) -> None:
    for side in ("train", "val"):
        for number, label in enumerate(SPLITS[side]):
            wnid = ("n01440764", "n02102040")[label]
            photograph(root / f"imagenette2/{side}/{wnid}/{wnid}_{number}.JPEG", number)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def photograph(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels([number], 8, 9, 3, seed=number)[0]).save(path)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


LAYOUTS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "cifar10": _cifar("CIFAR10", "labels"),
    "cifar100": _cifar("CIFAR100", "fine_labels"),
    "dtd": _dtd,
    "eurosat": _eurosat,
    "fashionmnist": _mnist("FashionMNIST"),
    "flowers102": _flowers102,
    "food101": _food101,
    "gtsrb": _gtsrb,
    "imagenette": _imagenette,
    "kmnist": _mnist("KMNIST"),
    "mnist": _mnist("MNIST"),
    "stl10": _stl10,
    "svhn": _svhn,
}

#: The classes of labels 0 and 1, as folders.
CLASSES = {
    "cifar10": ("cat", "dog"), "cifar100": ("cat", "dog"), "dtd": ("banded", "bubbly"),
    "eurosat": ("Forest", "River"), "fashionmnist": ("T-shirt-top", "Trouser"),
    "flowers102": ("pink primrose", "hard-leaved pocket orchid"), "food101": ("apple_pie", "waffles"),
    "gtsrb": ("00", "01"), "imagenette": ("tench", "English springer"), "kmnist": ("o", "ki"),
    "mnist": ("0 - zero", "1 - one"), "stl10": ("airplane", "bird"), "svhn": ("0", "1"),
}  # fmt: skip
