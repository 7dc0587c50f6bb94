"""What a result depends on, so that a later attempt can say whether it still computes the same."""

from typing import Any

import PIL
import torch
import torchvision
from PIL import features

from worker.messages import Slot
from worker.training.numerics import Numerics

#: Raised with every change to this package that changes the bits of a result.
ARITHMETIC_VERSION = 1

#: What older code did without recording it.
_BEFORE = {"micro_batches": 1}
_TITLES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "images": "decoding of images",
    "slot": "device and instruction set",
    "dataset": "dataset digest",
    "arithmetic": "version of the training code",
    "threads": "CPU threads",
    "optimizer_impl": "optimizer implementation",
    "memory_format": "memory format",
    "isa": "instruction set",
    "micro_batches": "parts of a batch",
}


def fingerprint(numerics: Numerics, slot: Slot, dataset_digest: str) -> dict[str, Any]:
    return {
        "torch": str(torch.__version__),  # a class of its own otherwise, that no bare load allows
        "torchvision": str(torchvision.__version__),
        # What decodes, resizes and augments.
        "images": f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')}",
        "numerics": numerics.to_json(),
        "slot": slot.key,
        "dataset": dataset_digest,
        "arithmetic": ARITHMETIC_VERSION,
    }


def differences(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """A sentence for each difference, e.g. ``torch 2.13.0 → 2.14.1``; none before the second attempt."""
    if before is None:
        return []
    old, new = _flat(before), _flat(now)
    return [
        f"{_TITLES.get(name, name)} {old.get(name, 'unknown')} → {new.get(name, 'unknown')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    # The format of files decides no bit of a result; only older code recorded it here.
    flat = {**_BEFORE, **tree, **tree.get("numerics", {})}
    return {name: value for name, value in flat.items() if name not in {"numerics", "checkpoint_format"}}
