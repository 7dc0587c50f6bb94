"""The job that the recovery benchmark kills: one description for both ways to run it."""

from pathlib import Path
from typing import Any

from benchmarks.training_case import TrainingCase


class Case(TrainingCase):
    """Each epoch but the first and the last sees a kill."""

    def draw(self, folder: Path) -> None:
        """The dataset; one batch of it for validation."""
        self.draw_sides(folder, num_val=self.batch_size)

    def spec(self, dataset: str) -> dict[str, Any]:
        return self.job("recovery", dataset, {"max_failures": 1000})

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
