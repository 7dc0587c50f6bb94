"""What users download, out of what is stored: ``python -m worker.training.materialise``.

A process of its own, so that whoever serves downloads stays without torch. The request is one JSON object
on stdin: ``parent_pid, storage_url, kind, job_id, checkpoint_id, checkpoint, frozen, destination``. ``kind``
is ``checkpoint`` for one self-contained checkpoint, ``model`` for a zip of what predictions take, or ``onnx``
for the same as an ONNX file. ``checkpoint`` and ``frozen`` are recorded files (``path, sha256, size_bytes``),
of which the latter may be null. The answer is one JSON line on stdout: ``size_bytes, sha256,
modified_ns`` of the file at the destination; or ``code, message``, with exit status 1, and nothing new at the
destination.
"""

# ruff: noqa: PLC0415 - what loads torch is imported late: that it is not installed is an answer, too

import contextlib
import fcntl
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from models.errors import DownloadFailed, OnnxMissing, PerdureError, TorchMissing
from models.storage import sha256_of, storage_from_url
from models.storage.local import FileWriter
from models.storage.protocol import nobody
from worker.messages import FileRef
from worker.process_guard import die_with_parent

PARTIAL = ".partial"
#: Below everything that trains, and below the API itself.
NICENESS = 10
#: By the module that was not found.
_MISSING: dict[str, type[PerdureError]] = {
    **dict.fromkeys(("torch", "torchvision", "numpy"), TorchMissing),
    **dict.fromkeys(("onnx", "onnxscript"), OnnxMissing),
}


@dataclass(frozen=True)
class Made:
    """The file at the destination; ``modified_ns`` tells it from any other that had its name."""

    size_bytes: int
    sha256: str
    modified_ns: int


def materialise(
    storage_url: str, checkpoint_ref: FileRef, frozen_ref: FileRef | None, destination: Path
) -> Made:
    """Write the whole checkpoint. Raises CheckpointDamaged, CheckpointFormatUnknown, DownloadFailed."""
    import torch

    content = _whole(storage_url, checkpoint_ref, frozen_ref)

    def fill(descriptor: int) -> tuple[int, str]:
        sink = FileWriter(descriptor, nobody)
        sink.fill(lambda file: torch.save(content, cast(IO[bytes], file)))
        return sink.size_bytes, sink.sha256

    return _made(destination, fill)


def pack_model(
    storage_url: str,
    checkpoint_ref: FileRef,
    frozen_ref: FileRef | None,
    destination: Path,
    *,
    kind: str,
    job_id: str,
    checkpoint_id: str,
) -> Made:
    """Write the checkpoint's model as ``kind`` says. Raises as ``materialise``, and OnnxUnsupported."""
    from worker.training.onnx_model import write_onnx
    from worker.training.portable import write_model_zip

    write = write_onnx if kind == "onnx" else write_model_zip
    content = _whole(storage_url, checkpoint_ref, frozen_ref)

    def fill(descriptor: int) -> tuple[int, str]:
        with os.fdopen(os.dup(descriptor), "w+b") as file:
            write(file, content, job_id, checkpoint_id)
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            # Read back: a zip is not written from front to back.
            return size_bytes, sha256_of(file)

    return _made(destination, fill)


def _whole(storage_url: str, checkpoint_ref: FileRef, frozen_ref: FileRef | None) -> dict[str, Any]:
    import torch

    from worker.training import checkpoint

    torch.set_num_threads(1)
    return checkpoint.read_whole(storage_from_url(storage_url), checkpoint_ref, frozen_ref)


def _made(destination: Path, fill: Callable[[int], tuple[int, str]]) -> Made:
    """The file that ``fill`` writes, under its name once it is whole. Raises DownloadFailed."""
    try:
        with _new_partial(destination) as (partial, descriptor):
            size_bytes, sha256 = fill(descriptor)
            os.fsync(descriptor)
            modified_ns = os.fstat(descriptor).st_mtime_ns
            # No fsync of the folder: a name that a power cut takes back is made again.
            partial.rename(destination)
    except OSError as error:
        raise DownloadFailed(
            f"The file could not be put together in {destination.parent}: {error.strerror or error}. "
            "Free some space there, or repair it, and try again."
        ) from error
    return Made(size_bytes, sha256, modified_ns)


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
    frozen = request["frozen"]
    where = (
        request["storage_url"],
        FileRef(**request["checkpoint"]),
        None if frozen is None else FileRef(**frozen),
        Path(request["destination"]),
    )
    try:
        if request["kind"] == "checkpoint":
            made = materialise(*where)
        else:
            named = {name: request[name] for name in ("kind", "job_id", "checkpoint_id")}
            made = pack_model(*where, **named)
    except PerdureError as error:
        return {"code": error.code, "message": error.message}
    except ModuleNotFoundError as error:
        missing = _MISSING.get(error.name or "")
        if missing is None:
            raise
        return {"code": missing.code, "message": missing().message}
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
