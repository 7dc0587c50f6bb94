"""A trained model as a zip that needs nothing of Perdure: weights, manifest, and a program that predicts."""

import json
import zipfile
from pathlib import Path
from typing import IO, Any

import safetensors.torch

from models.job_spec import JobSpec
from worker.training.images import IMAGENET_MEAN, IMAGENET_STD, resized_side
from worker.training.network import Architecture, build_empty, constructor_arguments
from worker.training.weights_hash import weights_sha256

#: Raised with every change that an old ``predict.py`` would not understand.
MANIFEST_FORMAT = 1
PROGRAM = Path(__file__).with_name("portable_predict.py")
#: The earliest that a zip can say: the same model is the same file whenever it is packed.
_WHEN = (1980, 1, 1, 0, 0, 0)


def write_model_zip(target: IO[bytes], content: dict[str, Any], job_id: str, checkpoint_id: str) -> None:
    """Pack a whole checkpoint's model: ``model.safetensors``, ``manifest.json``, ``predict.py``."""
    # Copies: in the file, tensors of one type are parts of one buffer, which safetensors refuses.
    tensors = {name: tensor.clone().contiguous() for name, tensor in content["model_state_dict"].items()}
    description = json.dumps(manifest(content, job_id, checkpoint_id), ensure_ascii=False, indent=2) + "\n"
    with zipfile.ZipFile(target, "w") as packed:
        # Stored: trained weights do not get smaller.
        _put(packed, "model.safetensors", safetensors.torch.save(tensors, {"format": "pt"}))
        _put(packed, "manifest.json", description.encode())
        _put(packed, "predict.py", PROGRAM.read_bytes())


def manifest(content: dict[str, Any], job_id: str, checkpoint_id: str) -> dict[str, Any]:
    """What one needs to know to use the weights of a whole checkpoint."""
    spec, classes = JobSpec.model_validate(content["spec"]), content["classes"]
    architecture = Architecture.of(spec, len(classes))
    head = build_empty(architecture).head
    arguments = constructor_arguments(architecture.name, architecture.image_size)
    if "init_weights" in arguments:
        arguments["init_weights"] = False  # slow, and for nothing: the weights are replaced at once
    fingerprint = content["fingerprint"]
    return {
        "format_version": MANIFEST_FORMAT,
        "job_id": job_id,
        "checkpoint_id": checkpoint_id,
        "epoch": content["epoch"],
        "step": content["step"],
        "val_loss": content["val_loss"],
        "arch": architecture.name,
        "dropout": architecture.dropout,
        "network": {
            "arguments": {**arguments, "num_classes": len(classes)},
            "head": head.layer,
            "dropout_added": head.dropout is None,
        },
        "classes": list(classes),
        "image_size": architecture.image_size,
        "preprocessing": {
            "resize_shorter_side": resized_side(architecture.image_size),
            "interpolation": "bilinear",
            "center_crop": architecture.image_size,
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "precision": fingerprint["numerics"]["precision"],
        "memory_format": fingerprint["numerics"]["memory_format"],
        "weights_sha256": weights_sha256(content["model_state_dict"]),
        "fingerprint": fingerprint,
    }


def _put(packed: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.external_attr = 0o644 << 16
    packed.writestr(entry, content)
