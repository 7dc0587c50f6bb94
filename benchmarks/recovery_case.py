"""The job that the recovery benchmark kills: one description for both ways to run it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.images import draw_images

CLASSES = 4


@dataclass(frozen=True)
class Case:
    """Full fine-tuning from random weights, with everything random that a job can have."""

    arch: str
    image_size: int
    batch_size: int
    steps_per_epoch: int
    epochs: int  #: of one job; each but the first and the last sees a kill
    threads: int | None = None  #: None takes every core

    def draw(self, folder: Path) -> None:
        """The dataset: ``train`` and ``val``, the latter of one batch."""
        sides = {"train": self.steps_per_epoch * self.batch_size, "val": self.batch_size}
        for seed, (side, images) in enumerate(sides.items()):
            draw_images(
                folder / side, classes=CLASSES, images=images, size=3 * self.image_size // 2, seed=seed
            )

    def spec(self, dataset: str) -> dict[str, Any]:
        """As a job of Perdure."""
        return {
            "name": "recovery",
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
            "fault_tolerance": {"max_failures": 1000},
        }

    def arguments(self) -> list[str]:
        """For ``benchmarks/torchrun_job.py``."""
        return [
            f"--arch={self.arch}",
            f"--image-size={self.image_size}",
            f"--batch-size={self.batch_size}",
            "--epochs=100000",
        ]


FULL = Case("efficientnet_b1", image_size=64, batch_size=16, steps_per_epoch=6, epochs=12)
QUICK = Case("mobilenet_v3_small", image_size=32, batch_size=8, steps_per_epoch=8, epochs=6, threads=1)
