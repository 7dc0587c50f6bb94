"""Small photographs that nobody took: coloured shapes with noise, one kind a class."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("circle", "square", "stripe", "wave")


def draw_dataset(folder: Path, *, per_class: int, size: int = 48, seed: int = 0) -> Path:
    """``folder/<class>/000.jpg``: learnable, and different for every seed."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            a, b = generator.uniform(0.3, 0.7, 2)
            mask = {
                "circle": (x - a) ** 2 + (y - b) ** 2 < 0.06,
                "square": (abs(x - a) < 0.2) & (abs(y - b) < 0.2),
                "stripe": (x * 6 + a).astype(int) % 2 == 0,
                "wave": np.sin(12 * x + 6 * a) > y * 2 - 1,
            }[kind]
            ground, shape = generator.uniform(0, 255, (2, 3))
            pixels = np.where(mask[..., None], shape, ground) + generator.normal(0, 25, (size, size, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / kind / f"{number:03}.jpg", quality=90)
    return folder
