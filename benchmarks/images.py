"""Small images that nobody took: enough for a benchmark of time, where what they show does not matter."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_images(folder: Path, *, classes: int, images: int, size: int, seed: int) -> None:
    """``folder/class-0/000.jpg`` and so on, ``images`` in all: a coloured gradient a class, under noise."""
    generator = np.random.default_rng(seed)
    slope = np.mgrid[0:size, 0:size].sum(axis=0)[..., None] / (2 * size)
    for number in range(images):
        kind = number % classes
        colour = np.random.default_rng(kind).uniform(60, 190, 3)
        pixels = colour + 60 * (slope - 0.5) + generator.normal(0, 20, (size, size, 3))
        path = folder / f"class-{kind}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
