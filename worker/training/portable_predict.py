"""Classifies images with the model that lies beside this file: python predict.py IMAGE… [--top-k 5] [--json]

Needs torch and torchvision (which brings Pillow), nothing else.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, v2

FOLDER = Path(__file__).resolve().parent
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file: the size of a JSON header, the header, then the bytes of all."""
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    if not 8 < begin <= len(content):
        raise ValueError(f"{path.name} is cut short or is no safetensors file")
    header = json.loads(content[8:begin])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        data = memoryview(content)[begin + first : begin + last]
        if len(data) != last - first:
            raise ValueError(f"{path.name} is cut short: tensor {name!r} is not whole")
        tensors[name] = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def build_network(manifest: dict[str, Any], tensors: dict[str, torch.Tensor]) -> nn.Module:
    """torchvision's network with the trained weights, for inference."""
    made_of = manifest["network"]
    # JSON has no tuples; where torchvision wants one it takes nothing else.
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in made_of["arguments"].items()}
    network: nn.Module = torchvision.models.get_model(manifest["arch"], weights=None, **arguments)
    parent, _, name = made_of["head"].rpartition(".")
    owner = network.get_submodule(parent)
    layer = getattr(owner, name)
    if layer.bias is None:  # MaxViT's; training gives every last layer one
        layer.bias = nn.Parameter(torch.zeros(len(manifest["classes"])))
    if made_of["dropout_added"]:  # the architecture has none before its last layer: training put one there
        setattr(owner, name, nn.Sequential(nn.Dropout(manifest["dropout"]), layer))
    places = network.state_dict()
    if places.keys() != tensors.keys():
        raise ValueError(f"the weights are not those of {manifest['arch']}")
    for name, place in places.items():
        place.copy_(tensors[name])
    if manifest["memory_format"] == "channels_last":
        network = network.to(memory_format=torch.channels_last)
    return network.eval()


class Model:
    """The trained network with everything around it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.classes: list[str] = self.manifest["classes"]
        self.network = build_network(self.manifest, read_safetensors(folder / "model.safetensors"))
        seen = self.manifest["preprocessing"]
        self._transform = v2.Compose(
            [
                v2.Resize(
                    seen["resize_shorter_side"], InterpolationMode(seen["interpolation"]), antialias=True
                ),
                v2.CenterCrop(seen["center_crop"]),
                v2.PILToTensor(),
            ]
        )
        self._mean = (255.0 * torch.tensor(seen["mean"])).view(1, 3, 1, 1)
        self._scale = (1.0 / (255.0 * torch.tensor(seen["std"]))).view(1, 3, 1, 1)

    @torch.inference_mode()
    def probabilities(self, image: Image.Image) -> torch.Tensor:
        """One for each class, in the order of ``classes``."""
        pixels = self._transform(image.convert("RGB"))[None].float()
        pixels = pixels.sub_(self._mean).mul_(self._scale)
        if self.manifest["memory_format"] == "channels_last":
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        low = self.manifest["precision"] == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits: torch.Tensor = self.network(pixels)
        return logits[0].float().softmax(0)

    def predict(self, image: Image.Image, top_k: int = 5) -> list[dict[str, Any]]:
        """The likeliest classes, the likeliest first."""
        best = self.probabilities(image).topk(min(top_k, len(self.classes)))
        return [
            {"class": self.classes[index], "index": index, "probability": probability}
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def main() -> int:
    """Exit status 1 if any of the files could not be read as an image."""
    parser = argparse.ArgumentParser(description="Classify images with the model beside this file.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--top-k", type=int, default=5, help="how many classes to show (5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    asked = parser.parse_args()
    model = Model()
    results, failed = [], False
    for path in asked.images:
        try:
            with Image.open(path) as image:
                predictions = model.predict(image, max(1, asked.top_k))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        results.append({"file": str(path), "predictions": predictions})
        if not asked.json:
            print(path)
            for entry in predictions:
                name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in entry["class"])
                print(f"  {entry['probability']:.4f}  {name}")
    if asked.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
