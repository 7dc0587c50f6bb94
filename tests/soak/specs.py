"""The jobs of a soak: unlike each other in whatever a resume could get wrong."""

from dataclasses import dataclass
from typing import Any

from tests.specs import full_fine_tune

_TOLERANCE = {"max_failures": 1000}
_HEAD = {"arch": "mobilenet_v3_small", "weights": None, "freeze": "backbone", "dropout": 0.3}


def _with(epochs: int, **hyperparameters: Any) -> dict[str, Any]:
    return full_fine_tune(epochs)["hyperparameters"] | hyperparameters


def _mixed(times: int) -> dict[str, dict[str, Any]]:
    """``times`` as long as they are at least."""
    return {
        "adamw": full_fine_tune(5 * times, fault_tolerance=_TOLERANCE),
        "head": full_fine_tune(8 * times, model=_HEAD, fault_tolerance=_TOLERANCE),
        "sgd": full_fine_tune(
            4 * times,
            hyperparameters=_with(4 * times, optimizer="sgd", lr=0.01),
            seed=8,
            fault_tolerance=_TOLERANCE,
        ),
        "within_epochs": full_fine_tune(
            3 * times,
            seed=9,
            fault_tolerance=_TOLERANCE | {"checkpoint_every": {"epochs": 2, "seconds": 1.0}},
        ),
    }


@dataclass(frozen=True)
class Load:
    """What the users of a soak want."""

    specs: dict[str, dict[str, Any]]
    num_unfinished: int  #: at any time


#: Beside the first two: one job after another, so that all kills are of the job whose goodput is measured and
#: two workers stand by.
LOADS = {
    "short": Load(_mixed(1), num_unfinished=5),
    "medium": Load(_mixed(6), num_unfinished=5),
    "long": Load(
        {"long": full_fine_tune(50, dataset={"path": "many"}, fault_tolerance=_TOLERANCE)}, num_unfinished=1
    ),
}
