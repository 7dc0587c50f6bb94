"""What the checkpoint benchmark saves, and the job that it disturbs with saving. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training_case import TrainingCase

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


class Job(TrainingCase):
    """Fine-tuning with a checkpoint at the end of every second epoch, to hold the other epochs against."""

    def draw(self, folder: Path) -> None:
        """The dataset; a quarter as many images for validation."""
        self.draw_sides(folder, num_val=self.num_train // 4)

    def spec(self, dataset: str) -> dict[str, Any]:
        every = {"epochs": 2, "seconds": _NEVER_SECONDS}
        return self.job("checkpoint", dataset, {"checkpoint_every": every})

    def __str__(self) -> str:
        return (
            f"{self.arch}, {self.image_size} px, batches of {self.batch_size}, "
            f"{self.steps_per_epoch} steps an epoch"
        )


FULL = Job("efficientnet_b1", image_size=240, batch_size=16, steps_per_epoch=20, epochs=24)
QUICK = Job("mobilenet_v3_small", image_size=96, batch_size=16, steps_per_epoch=16, epochs=10, threads=1)
