"""The hash that names a set of weights; anyone can recompute it from a download."""

import hashlib
from collections.abc import Callable, Mapping

import torch


def weights_sha256(
    state_dict: Mapping[str, torch.Tensor], on_tensor: Callable[[int], object] = lambda done: None
) -> str:
    """SHA-256 over names, types, shapes and little-endian bytes, in the order of the names."""
    digest = hashlib.sha256()
    for done, name in enumerate(sorted(state_dict)):
        tensor = state_dict[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        on_tensor(done + 1)
    return digest.hexdigest()
