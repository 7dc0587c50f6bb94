"""What the checkpoint benchmark saves, and the job that it disturbs with saving. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.images import draw_images

CLASSES = 4
#: No checkpoint within an epoch: they would fall on both sides of the comparison.
_NEVER_SECONDS = 86_400.0
#: One epoch for the machine, two more until the buffers of the first checkpoint have been used once.
WARM_UP_EPOCHS = 3


@dataclass(frozen=True)
class State:
    """Something that is saved; its optimizer is Adam."""

    title: str
    arch: str
    freeze: str
    repetitions: int
    quick_repetitions: int  #: 0 leaves it out of a quick run
    is_trained: bool = True  #: False: random tensors of the same shapes, and no step in between
    needs_memory_bytes: int = 0  #: the state, Perdure's copy of it and DCP's, and some room
    needs_disk_bytes: int = 0


STATES = {
    "full": State("EfficientNet-B1, all of it learning", "efficientnet_b1", "none", 20, 4),
    "head": State("EfficientNet-B1, its head learning", "efficientnet_b1", "backbone", 20, 3),
    "large": State("ViT-L/16, all of it learning", "vit_l_16", "none", 3, 0, False, 13 * 10**9, 8 * 10**9),
}


@dataclass(frozen=True)
class Job:
    """Fine-tuning with a checkpoint at the end of every second epoch, to hold the other epochs against."""

    arch: str
    image_size: int
    batch_size: int
    steps_per_epoch: int
    epochs: int
    threads: int | None = None  #: None takes every core

    def draw(self, folder: Path) -> None:
        """The dataset; a quarter as many images for validation."""
        images = self.steps_per_epoch * self.batch_size
        for seed, (side, number) in enumerate({"train": images, "val": images // 4}.items()):
            draw_images(
                folder / side, classes=CLASSES, images=number, size=3 * self.image_size // 2, seed=seed
            )

    def spec(self, dataset: str) -> dict[str, Any]:
        return {
            "name": "checkpoint",
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
            "fault_tolerance": {"checkpoint_every": {"epochs": 2, "seconds": _NEVER_SECONDS}},
        }

    def __str__(self) -> str:
        return (
            f"{self.arch}, {self.image_size} px, batches of {self.batch_size}, "
            f"{self.steps_per_epoch} steps an epoch"
        )


FULL = Job("efficientnet_b1", image_size=240, batch_size=16, steps_per_epoch=20, epochs=24)
QUICK = Job("mobilenet_v3_small", image_size=96, batch_size=16, steps_per_epoch=16, epochs=10, threads=1)
