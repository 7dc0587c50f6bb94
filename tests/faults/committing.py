"""Writes checkpoints into a store for as long as it lives; says of each, once it is written, that it is.

Run as ``python -m tests.faults.committing FOLDER SEED``. A line is ``recorded PATH SIZE SHA256``, or
``pruned PATH`` right before that file is deleted: what a supervisor would have in its database.
"""

import os
import random
import sys
from pathlib import Path

import torch

from models.storage import storage_from_url
from worker.training import checkpoint
from worker.training.state import RunState

KEEP = 4
#: From a head's checkpoint to more than the store writes at once.
SMALLEST, LARGEST = 10_000, 5_000_000


def main(folder: str, seed: str) -> None:
    storage = storage_from_url(Path(folder).as_uri())
    random_ = random.Random(seed)
    kept: list[str] = []
    for step in range(1, 1_000_000):
        size = int(SMALLEST * (LARGEST / SMALLEST) ** random_.random())
        tensor = torch.frombuffer(bytearray(random_.randbytes(size)), dtype=torch.uint8)
        content = {**RunState(step=step).to_dict(), "model_state_dict": {"weight": tensor}}
        _, file = checkpoint.write(storage, "job_1", 1, content, None, lambda done: None)
        say(f"recorded {file.path} {file.size_bytes} {file.sha256}")
        kept.append(file.path)
        for path in kept[:-KEEP]:
            say(f"pruned {path}")
            storage.delete(path)
            kept.remove(path)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
