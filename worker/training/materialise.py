"""One self-contained checkpoint out of its two stored files: ``python -m worker.training.materialise``.

A process of its own, so that whoever serves downloads stays without torch. The request is one JSON object
on stdin: ``parent_pid, storage_url, checkpoint, frozen, destination``, where both files are the recorded
``path, sha256, size_bytes``. The answer is one JSON line on stdout: ``size_bytes, sha256, modified_ns`` of
the file at the destination; or ``code, message``, with exit status 1, and nothing new at the destination.
"""

# ruff: noqa: PLC0415 - what loads torch is imported late: that it is not installed is an answer, too

import contextlib
import fcntl
import json
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from models.errors import CheckpointDamaged, DownloadFailed, PerdureError, TorchMissing
from models.storage import storage_from_url
from models.storage.local import FileWriter
from models.storage.protocol import nobody
from worker.messages import FileRef
from worker.process_guard import die_with_parent

PARTIAL = ".partial"
#: Below everything that trains, and below the API itself.
NICENESS = 10


@dataclass(frozen=True)
class Made:
    """The file at the destination; ``modified_ns`` tells it from any other that had its name."""

    size_bytes: int
    sha256: str
    modified_ns: int


def materialise(storage_url: str, checkpoint_ref: FileRef, frozen_ref: FileRef, destination: Path) -> Made:
    """Write the whole checkpoint. Raises CheckpointDamaged, CheckpointFormatUnknown, DownloadFailed."""
    import torch

    torch.set_num_threads(1)
    content = merged(storage_url, checkpoint_ref, frozen_ref)
    try:
        with _new_partial(destination) as (partial, descriptor):
            sink = FileWriter(descriptor, nobody)
            sink.fill(lambda file: torch.save(content, cast(IO[bytes], file)))
            os.fsync(descriptor)
            modified_ns = os.fstat(descriptor).st_mtime_ns
            # No fsync of the folder: a name that a power cut takes back is made again.
            partial.rename(destination)
    except OSError as error:
        raise DownloadFailed(
            f"The checkpoint could not be put together in {destination.parent}: {error.strerror or error}. "
            "Free some space there, or repair it, and try again."
        ) from error
    return Made(sink.size_bytes, sink.sha256, modified_ns)


def merged(storage_url: str, checkpoint_ref: FileRef, frozen_ref: FileRef) -> dict[str, Any]:
    """The checkpoint with every tensor; neither file is parsed before the hashes of both are right."""
    from worker.training import checkpoint

    storage = storage_from_url(storage_url)
    try:
        files = [
            checkpoint.read_verified(storage, ref, lambda *_: None) for ref in (checkpoint_ref, frozen_ref)
        ]
    except checkpoint.CheckpointUnusable as unusable:
        raise CheckpointDamaged(
            f"A stored file of this checkpoint is damaged: {unusable}. Choose another checkpoint, or restore "
            "the store; a job that goes on repairs what it needs."
        ) from unusable
    content, frozen = (checkpoint.parse(file) for file in files)
    # What is frozen lies before what learns, so this is the network's own order.
    tensors = {**frozen["model_state_dict"], **content["model_state_dict"]}
    return {**content, "model_state_dict": tensors, "frozen": None}


@contextlib.contextmanager
def _new_partial(destination: Path) -> Iterator[tuple[Path, int]]:
    """A file under a name that nobody else uses; locked for as long as this process lives.

    Whoever clears away leftovers takes those that he can lock, since nobody is going to finish them.
    """
    partial = destination.with_name(f"{destination.name}.{uuid.uuid4().hex}{PARTIAL}")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with contextlib.suppress(OSError):  # not every network file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield partial, descriptor
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request; what went wrong is part of the answer."""
    try:
        made = materialise(
            request["storage_url"],
            FileRef(**request["checkpoint"]),
            FileRef(**request["frozen"]),
            Path(request["destination"]),
        )
    except PerdureError as error:
        return {"code": error.code, "message": error.message}
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "torchvision", "numpy"}:
            raise
        return {"code": TorchMissing.code, "message": TorchMissing().message}
    return vars(made)


def main() -> int:
    # Read to its end before anything else: a parent that died has not written all of it.
    request = json.load(sys.stdin)
    die_with_parent(request["parent_pid"])
    os.nice(NICENESS)
    answered = answer(request)
    print(json.dumps(answered), flush=True)  # noqa: T201 - the answer
    return 1 if "code" in answered else 0


if __name__ == "__main__":
    sys.exit(main())
