"""The jobs of a soak: small, and unlike each other in whatever a resume could get wrong."""

from typing import Any

from tests.specs import full_fine_tune

_TOLERANCE = {"max_failures": 1000}
_HEAD = {"arch": "mobilenet_v3_small", "weights": None, "freeze": "backbone", "dropout": 0.3}


def _with(**hyperparameters: Any) -> dict[str, Any]:
    return full_fine_tune(4)["hyperparameters"] | hyperparameters


SPECS: dict[str, dict[str, Any]] = {
    "adamw": full_fine_tune(5, fault_tolerance=_TOLERANCE),
    "head": full_fine_tune(8, model=_HEAD, fault_tolerance=_TOLERANCE),
    "sgd": full_fine_tune(
        4, hyperparameters=_with(optimizer="sgd", lr=0.01), seed=8, fault_tolerance=_TOLERANCE
    ),
    "within_epochs": full_fine_tune(
        3, seed=9, fault_tolerance=_TOLERANCE | {"checkpoint_every": {"epochs": 2, "seconds": 1.0}}
    ),
}
