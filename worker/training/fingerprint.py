"""What a result depends on, so that a later attempt can say whether it still computes the same."""

from typing import Any

import torch
import torchvision

from worker.messages import Slot
from worker.training.numerics import Numerics

#: Raised with every change to this package that changes the bits of a result.
ARITHMETIC_VERSION = 1
CHECKPOINT_FORMAT = 1

_TITLES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "slot": "device and instruction set",
    "dataset": "dataset digest",
    "checkpoint_format": "checkpoint format",
    "arithmetic": "version of the training code",
    "threads": "CPU threads",
    "optimizer_impl": "optimizer implementation",
    "memory_format": "memory format",
    "isa": "instruction set",
}


def fingerprint(numerics: Numerics, slot: Slot, dataset_digest: str) -> dict[str, Any]:
    return {
        "torch": str(torch.__version__),  # a class of its own otherwise, that no bare load allows
        "torchvision": str(torchvision.__version__),
        "numerics": numerics.to_json(),
        "slot": slot.key,
        "dataset": dataset_digest,
        "checkpoint_format": CHECKPOINT_FORMAT,
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
    return {**{name: value for name, value in tree.items() if name != "numerics"}, **tree.get("numerics", {})}
