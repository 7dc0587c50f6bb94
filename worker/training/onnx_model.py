"""A trained model as one ONNX file: pixels in, probabilities out, for runtimes that know nothing of torch."""

# ruff: noqa: PLC0415 - the converter is an extra, and takes seconds to import

import json
import logging
import warnings
from typing import IO, Any

import torch
from torch import nn

from models.errors import OnnxUnsupported
from models.job_spec import JobSpec
from worker.training.images import Normalisation
from worker.training.network import Architecture, build_empty, load
from worker.training.portable import manifest

#: A protobuf message, which such a file is, holds less than 2 GiB.
MAX_BYTES = 2**31 - 2**20
INPUT, OUTPUT = "pixels", "probabilities"
#: Of the file's metadata: the ``manifest.json`` of the model's zip.
MANIFEST_KEY = "manifest"


class _PixelsToProbabilities(nn.Module):
    """With what surrounds the network in validation, so that nobody has to repeat it elsewhere."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._normalise = Normalisation(torch.device("cpu"), torch.contiguous_format)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self._normalise(pixels))
        return logits.softmax(1)


def write_onnx(target: IO[bytes], content: dict[str, Any], job_id: str, checkpoint_id: str) -> None:
    """Convert a whole checkpoint's network; in float32, whatever the job computed in.

    The input ``pixels`` is uint8 (any number, 3, image_size, image_size) in RGB, resized and cropped as the
    manifest says; the output ``probabilities`` is float32 (number, classes). Raises OnnxUnsupported, and
    ModuleNotFoundError where the extra is not installed.
    """
    import onnx  # noqa: F401 - torch would say in other words that it is missing
    import onnxscript  # noqa: F401

    classes = content["classes"]
    architecture = Architecture.of(JobSpec.model_validate(content["spec"]), len(classes))
    num_bytes = sum(tensor.nbytes for tensor in content["model_state_dict"].values())
    if num_bytes >= MAX_BYTES:
        raise OnnxUnsupported(
            f"{architecture.name} has {num_bytes:,} bytes of weights, and an ONNX file holds 2 GiB; "
            "take the zip."
        )
    network = build_empty(architecture).module
    load(network, content["model_state_dict"])
    program = _converted(_PixelsToProbabilities(network).eval(), architecture)
    described = manifest(content, job_id, checkpoint_id)
    program.model.metadata_props[MANIFEST_KEY] = json.dumps(described, ensure_ascii=False)
    program.model.producer_name = "perdure"
    target.write(program.model_proto.SerializeToString(deterministic=True))


def _converted(module: nn.Module, architecture: Architecture) -> Any:
    # Two images: a dimension of size 1 would be taken for one that always has it.
    example = torch.zeros((2, 3, architecture.image_size, architecture.image_size), dtype=torch.uint8)
    # Both tell of what they do not know in general, whatever is converted.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: torch.export.Dim("number")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise OnnxUnsupported(
                f"{architecture.name} cannot be converted to ONNX by this version of torch; take the zip."
            ) from error
