"""The hash of a downloaded model, computed by code that shares nothing with the service.

Run as ``python -m tests.independent FILE``; the function is the one that the documentation prints.
"""

import hashlib
import subprocess
import sys
from pathlib import Path


def weights_sha256_of(path: Path) -> str:
    """In a process of its own, so that torch stays out of the test's."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.independent", str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    return answer.stdout.strip()


def main(path: str) -> None:
    import torch  # noqa: PLC0415 - only the process that computes the hash needs it

    state_dict = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    print(digest.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
