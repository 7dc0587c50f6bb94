"""The hashes of a downloaded checkpoint, computed by code that shares nothing with the service.

Run as ``python -m tests.independent FILE``; that for weights is the one that the documentation prints.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def weights_sha256_of(path: Path) -> str:
    return hashes_of(path)["weights"]


def hashes_of(path: Path) -> dict[str, str]:
    """Of ``weights`` and ``optimizer``, in a process of its own, so that torch stays out of the test's."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.independent", str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    hashes: dict[str, str] = json.loads(answer.stdout)
    return hashes


def weights_sha256(state_dict: dict[str, Any]) -> str:
    """As the public contract prints it."""
    import torch  # noqa: PLC0415 - only the process that computes the hashes needs it

    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(path: str) -> None:
    import torch  # noqa: PLC0415

    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    optimizer = checkpoint["optimizer_state_dict"]
    moments = {
        f"{n}.{name}": value for n, state in optimizer["state"].items() for name, value in state.items()
    }
    assert moments, "an optimizer without state proves nothing"
    groups = hashlib.sha256(json.dumps(optimizer["param_groups"]).encode()).hexdigest()
    hashes = {
        "weights": weights_sha256(checkpoint["model_state_dict"]),
        "optimizer": weights_sha256(moments) + groups,
    }
    print(json.dumps(hashes))


if __name__ == "__main__":
    main(sys.argv[1])
