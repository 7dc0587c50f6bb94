"""The weights that a job starts from: published ones, a file below the data root, or none."""

import hashlib
import os
import pickle
import re
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torchvision.models.vision_transformer import interpolate_embeddings

from models.errors import WeightsInvalid, WeightsUnavailable
from models.job_spec import WeightsFile
from worker.training.network import Architecture, Classifier, build, build_empty, load, new_head_tensors

Tensors = Mapping[str, torch.Tensor]
OnBytes = Callable[[int, int], object]  #: bytes done, bytes in all

CHUNK = 2**20
DOWNLOAD_TIMEOUT_SECONDS = 20.0

#: DenseNet's published files still use the names of an older torchvision.
_OLD_DENSENET_NAME = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")


def initial_network(
    architecture: Architecture,
    weights: WeightsFile | str | None,
    *,
    seed: int,
    data_root: Path,
    downloads: bool,
    on_bytes: OnBytes,
) -> Classifier:
    """The network as training starts. Raises WeightsUnavailable or WeightsInvalid."""
    if weights is None:
        return build(architecture, seed)
    if isinstance(weights, WeightsFile):
        tensors = read_file(data_root, weights.file)
    else:
        tensors = _read_published(architecture, weights, downloads, on_bytes)
    _expect_numbers(tensors)
    classifier = build_empty(architecture)
    load(classifier.module, _with_head(tensors, classifier, seed))
    return classifier


def _expect_numbers(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsInvalid(f"Tensor {name!r} of the weights has values that are not numbers.")


def read_file(data_root: Path, relative_path: str) -> Tensors:
    """The tensors of a ``.safetensors`` or ``.pth`` file below the data root; code in it is never run."""
    root = data_root.resolve()
    path = (root / relative_path).resolve()
    if not path.is_relative_to(root):
        raise WeightsInvalid(f"The weights file {relative_path!r} leads out of the data root.")
    if not path.is_file():
        raise WeightsUnavailable(f"There is no weights file {relative_path!r} below the data root.")
    return _parse(path, relative_path)


def _parse(path: Path, name: str) -> Tensors:
    try:
        content: Any
        if path.suffix.lower() == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise WeightsInvalid(
            f"{name!r} cannot be read as weights: it must be a state dict saved by torch.save or by "
            f"safetensors ({_first_line(error)})."
        ) from error
    for wrapping in ("model_state_dict", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapping), dict):
            content = content[wrapping]
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise WeightsInvalid(f"{name!r} is not a state dict: it must map names to tensors.")
    return content


def _read_published(architecture: Architecture, name: str, downloads: bool, on_bytes: OnBytes) -> Tensors:
    choices = torchvision.models.get_model_weights(architecture.name)
    try:
        entry = choices[name]
    except KeyError:
        known = ", ".join(choice.name for choice in choices)
        raise WeightsInvalid(
            f"{architecture.name} has no weights {name!r}; torchvision publishes {known}."
        ) from None
    url: str = entry.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        _download(url, path, downloads, on_bytes)
    elif not _has_published_hash(path):
        raise WeightsInvalid(f"{path} is damaged: its hash is not the published one. Delete it and retry.")
    tensors = {_OLD_DENSENET_NAME.sub(r"\1\2", key): value for key, value in _parse(path, path.name).items()}
    tensors = {key: value for key, value in tensors.items() if not key.startswith(_AUXILIARY_HEADS)}
    if architecture.name.startswith("vit_"):
        patch_size = tensors["conv_proj.weight"].shape[-1]
        tensors = interpolate_embeddings(architecture.image_size, patch_size, tensors)
    return tensors


def _with_head(tensors: Tensors, classifier: Classifier, seed: int) -> Tensors:
    """The tensors with a head that fits: the file's own if it has as many outputs, else a new one."""
    head = classifier.head
    old, new = f"{head.layer}.", f"{head.new_layer}."
    expected = {name: tensor.shape for name, tensor in classifier.module.state_dict().items()}
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(old)}
    # A file from elsewhere calls the head by torchvision's name, a file of ours by the new one.
    given = {
        name if name.startswith(new) and new != old else new + name.removeprefix(old): tensor
        for name, tensor in tensors.items()
        if name.startswith(old)
    }
    # Files from before BatchNorm counted its batches; torch, too, lets them begin at 0.
    counts = {name: torch.tensor(0) for name in expected if name.endswith(".num_batches_tracked")}
    fits = given and all(expected.get(name) == tensor.shape for name, tensor in given.items())
    return {**counts, **body, **(given if fits else new_head_tensors(classifier, seed))}


def _download(url: str, path: Path, downloads: bool, on_bytes: OnBytes) -> None:
    what_to_do = f"Put the file from {url} at {path} on the worker"
    if not downloads:
        raise WeightsUnavailable(f"{path.name} is not on this machine and downloads are off. {what_to_do}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial: Path | None = None
    try:
        with (
            urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response,  # noqa: S310 - torchvision's
            tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as sink,
        ):
            partial = Path(sink.name)
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK):
                sink.write(chunk)
                on_bytes(sink.tell(), total)
            sink.flush()
            os.fsync(sink.fileno())
        if not _has_published_hash(partial, path.name):
            raise WeightsUnavailable(f"{url} sent something else than the published weights. {what_to_do}.")
        partial.rename(path)
    except OSError as error:
        raise WeightsUnavailable(
            f"{url} could not be fetched ({_first_line(error)}). {what_to_do}, or let it reach the internet."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _has_published_hash(path: Path, name: str | None = None) -> bool:
    """File names of published weights end in the first hex digits of their SHA-256."""
    expected = re.search(r"-([0-9a-f]{8,})\.", name or path.name)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return expected is None or digest.hexdigest().startswith(expected[1])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
