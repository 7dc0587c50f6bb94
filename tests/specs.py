"""Specs of jobs small enough to be trained many times over."""

from typing import Any

#: A full fine-tune with everything that makes resuming hard: augmentation, dropout, momentum, a schedule.
FULL_FINE_TUNE: dict[str, Any] = {
    "dataset": {"path": "shapes"},
    "model": {"arch": "mobilenet_v3_small", "weights": None, "freeze": "none", "dropout": 0.3},
    "hyperparameters": {
        "epochs": 4, "batch_size": 8, "image_size": 32, "optimizer": "adamw", "lr": 0.001,
        "weight_decay": 0.01, "scheduler": "cosine", "augment": "crop", "label_smoothing": 0.1,
    },
    "seed": 7,
    "fault_tolerance": {"max_failures": 100},
}  # fmt: skip


def full_fine_tune(epochs: int, **changes: Any) -> dict[str, Any]:
    """The same with another length, and whatever else differs at the top level."""
    hyperparameters = FULL_FINE_TUNE["hyperparameters"] | {"epochs": epochs}
    return FULL_FINE_TUNE | {"hyperparameters": hyperparameters} | changes
