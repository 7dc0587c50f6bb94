"""The proof: the weights of both downloads hashed again, by code that shares nothing with the service."""

import json
import subprocess
import sys
from pathlib import Path

from perdure.errors import LocalStackError

#: torch stays out of this package, so the hash is computed in a process of its own.
_PROGRAM = """
import hashlib, json, sys
import torch

def weights_sha256(state_dict):
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\\0{str(tensor.dtype).removeprefix('torch.')}\\0{shape}\\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

print(json.dumps([
    weights_sha256(torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"])
    for path in sys.argv[1:]
]))
"""


def recompute_hashes(files: list[Path]) -> list[str]:
    """The ``weights_sha256`` of each downloaded checkpoint. Raises LocalStackError."""
    process = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, *map(str, files)], capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise LocalStackError(f"The downloaded weights could not be read:\n{process.stderr[-2000:]}")
    hashes: list[str] = json.loads(process.stdout)
    return hashes
