"""From the bytes of an image file to pixels, and from pixels to what a network sees."""

import io
from collections.abc import Callable
from typing import Any, Literal

import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import InterpolationMode, v2

from models.archives.images import MAX_PIXELS

#: Of the published weights; every network here sees its images so.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Beyond so many pixels in the widest format.
MAX_FILE_BYTES = 2**30

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")

Augment = Literal["none", "flip", "crop", "trivial"]
Transform = Callable[[Image.Image], torch.Tensor]


def decode(content: bytes) -> Image.Image:
    """An RGB image; of an animation its first frame. Raises ValueError that says what is wrong."""
    try:
        return _open_as_rgb(content)
    except UnidentifiedImageError:
        raise ValueError("not an image, or of a kind that is not supported") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS} pixels") from None
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise struct.error, SyntaxError and many more
        raise ValueError(str(error) or type(error).__name__) from error


def _open_as_rgb(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} × {height} pixels are more than {MAX_PIXELS}")
        return image.convert("RGB")


def resized_side(image_size: int) -> int:
    """What the shorter side of an image is resized to before its centre is cut out."""
    return round(image_size * 256 / 224)


def evaluation_transform(image_size: int) -> Transform:
    """The centre of the image: the shorter side to 256/224 of ``image_size``, then a square of it.

    Gives uint8 tensors of shape (3, image_size, image_size).
    """
    transform: Transform = v2.Compose(
        [
            v2.Resize(resized_side(image_size), InterpolationMode.BILINEAR, antialias=True),
            v2.CenterCrop(image_size),
            v2.PILToTensor(),
        ]
    )
    return transform


def training_transform(image_size: int, augment: Augment) -> Transform:
    """``flip``: the centre, mirrored half the time; ``crop``: random crops instead; ``trivial``: more."""
    if augment == "none":
        return evaluation_transform(image_size)
    steps: list[Any]
    if augment == "flip":
        steps = [v2.RandomHorizontalFlip(), evaluation_transform(image_size)]
    else:
        crop = v2.RandomResizedCrop(image_size, interpolation=InterpolationMode.BILINEAR, antialias=True)
        policy = [v2.TrivialAugmentWide()] if augment == "trivial" else []
        steps = [crop, v2.RandomHorizontalFlip(), *policy, v2.PILToTensor()]
    transform: Transform = v2.Compose(steps)
    return transform


class Normalisation:
    """From uint8 pixels to what ImageNet's networks expect, a batch at a time on the device."""

    def __init__(self, device: torch.device, memory_format: torch.memory_format) -> None:
        shape = (1, 3, 1, 1)
        self._device, self._memory_format = device, memory_format
        self._scale = (1.0 / (255.0 * torch.tensor(IMAGENET_STD, device=device))).view(shape)
        self._mean = (255.0 * torch.tensor(IMAGENET_MEAN, device=device)).view(shape)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) uint8 to (N, 3, H, W) float32 in the memory format of the network."""
        moved = pixels.to(self._device, non_blocking=True).contiguous(memory_format=self._memory_format)
        return moved.float().sub_(self._mean).mul_(self._scale)
