"""What a trained network says of one image: the computation of validation, for a single picture."""

from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from models.job_spec import JobSpec
from worker.training.images import Normalisation, evaluation_transform, resized_side
from worker.training.network import Architecture, build_empty, load
from worker.training.numerics import Numerics

#: Resizing makes the shorter side as long as the network wants it, and the longer one grows with it.
MAX_RESIZED_PIXELS = 2**28


class TrainedModel:
    """A whole checkpoint's network on the CPU, ready to be asked."""

    def __init__(self, content: dict[str, Any]) -> None:
        """Raises WeightsInvalid."""
        self.classes: list[str] = content["classes"]
        architecture = Architecture.of(JobSpec.model_validate(content["spec"]), len(self.classes))
        self._numerics = replace(Numerics(**content["fingerprint"]["numerics"]), device="cpu")
        classifier = build_empty(architecture)
        load(classifier.module, content["model_state_dict"])
        self._network = classifier.module.to(memory_format=self._numerics.format).eval()
        self._image_size = architecture.image_size
        self._transform = evaluation_transform(architecture.image_size)
        self._normalise = Normalisation(torch.device("cpu"), self._numerics.format)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What the network is shown of an RGB image, as validation shows it: (3, image_size, image_size).

        Raises ValueError for an image so elongated that resizing it would take seconds and gigabytes.
        """
        shorter, longer = sorted(image.size)
        if resized_side(self._image_size) ** 2 * longer > MAX_RESIZED_PIXELS * shorter:
            raise ValueError(f"{image.width} × {image.height} pixels are too elongated; crop it")
        return self._transform(image)

    @torch.inference_mode()
    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        """One for each class."""
        with self._numerics.autocast():
            logits: torch.Tensor = self._network(self._normalise(pixels[None]))
        return logits[0].float().softmax(0)

    def predict(self, pixels: torch.Tensor, top_k: int) -> list[dict[str, Any]]:
        """``class, index, probability`` of the likeliest classes, the likeliest first."""
        best = self.probabilities(pixels).topk(min(top_k, len(self.classes)))
        return [
            {"class": self.classes[index], "index": index, "probability": probability}
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
