"""What the jobs of the benchmarks have in common. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.images import draw_images

CLASSES = 4


@dataclass(frozen=True)
class TrainingCase:
    """Full fine-tuning from random weights, with everything random that a job can have."""

    arch: str
    image_size: int
    batch_size: int
    steps_per_epoch: int
    epochs: int
    threads: int | None = None  #: None takes every core

    @property
    def num_train(self) -> int:
        return self.steps_per_epoch * self.batch_size

    def draw_sides(self, folder: Path, *, num_val: int) -> None:
        """The dataset: ``train`` and ``val``."""
        for seed, (side, images) in enumerate({"train": self.num_train, "val": num_val}.items()):
            draw_images(
                folder / side, classes=CLASSES, images=images, size=3 * self.image_size // 2, seed=seed
            )

    def job(self, name: str, dataset: str, fault_tolerance: dict[str, Any]) -> dict[str, Any]:
        """As a job of Perdure."""
        return {
            "name": name,
            "dataset": {"path": dataset},
            "model": {"arch": self.arch, "weights": None, "freeze": "none", "dropout": 0.3},
            "hyperparameters": {
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "image_size": self.image_size,
                "optimizer": "adam",
                "augment": "flip",
            },
            "seed": 7,
            "fault_tolerance": fault_tolerance,
        }
