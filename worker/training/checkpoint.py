"""Checkpoint files: ``torch.save`` archives that ``torch.load(path, weights_only=True)`` opens anywhere."""

import io
from collections.abc import Callable
from typing import IO, Any, cast

import torch
import uuid_utils

from models.errors import CheckpointDamaged, CheckpointFormatUnknown, StorageFailed
from models.storage import Storage, sha256_of
from worker.messages import FileRef
from worker.training.state import RunState
from worker.training.weights_hash import weights_sha256

OnBytes = Callable[[int], object]

CHECKPOINT_FORMAT = 2
#: What this code can read. The first had no frozen parts apart; nothing else differs.
READABLE_FORMATS = (1, CHECKPOINT_FORMAT)


class CheckpointUnusable(Exception):
    """A recorded checkpoint is missing, or is not the file that was recorded."""


class WriteProgress:
    """Turns the sizes that a store reports into one count: bytes written first, then bytes verified."""

    def __init__(self, report: Callable[[int, int], object]) -> None:
        self._report = report
        self._written = self._last = 0

    def __call__(self, size_bytes: int) -> None:
        if size_bytes < self._last:  # the second pass begins
            self._written = self._last
        self._last = size_bytes
        self._report(self._written + size_bytes, 2 * max(self._written, size_bytes))


def state_of(content: dict[str, Any]) -> RunState:
    return RunState.from_dict(content)


def write(
    storage: Storage,
    job_id: str,
    attempt: int,
    content: dict[str, Any],
    frozen: FileRef | None,
    on_bytes: OnBytes,
) -> tuple[str, FileRef]:
    """Make a checkpoint durable under a name that was never used before: its id and its file.

    ``model_state_dict`` lacks the tensors of ``frozen``. Raises StorageFailed.
    """
    state = state_of(content)
    identifier = f"ckpt_{uuid_utils.uuid7().hex}"
    name = f"epoch-{state.epoch:04d}.step-{state.step:06d}.attempt-{attempt}.{identifier}.pth"
    whole = {
        "format_version": CHECKPOINT_FORMAT,
        **content,
        "frozen": None if frozen is None else {"path": frozen.path, "sha256": frozen.sha256},
    }
    return identifier, _save(storage, f"jobs/{job_id}/checkpoints/{name}", whole, on_bytes)


def write_frozen(
    storage: Storage, job_id: str, attempt: int, tensors: dict[str, torch.Tensor], on_bytes: OnBytes
) -> FileRef:
    """Store the tensors that never change, named by what they hold. Raises StorageFailed."""
    name = f"{weights_sha256(tensors)}.attempt-{attempt}.{uuid_utils.uuid7().hex}.pth"
    content = {"format_version": CHECKPOINT_FORMAT, "model_state_dict": tensors}
    return _save(storage, f"jobs/{job_id}/frozen/{name}", content, on_bytes)


def frozen_content_hash(path: str) -> str:
    """The hash over the tensors that a stored frozen part is named by."""
    return path.rsplit("/", 1)[-1].partition(".")[0]


def _save(storage: Storage, key: str, content: dict[str, Any], on_bytes: OnBytes) -> FileRef:
    # The archive is written from front to back; torch asks for no more than write and flush.
    stored = storage.write(key, lambda sink: torch.save(content, cast(IO[bytes], sink)), on_bytes)
    return FileRef(stored.key, stored.sha256, stored.size_bytes)


def read_verified(storage: Storage, ref: FileRef, on_bytes: Callable[[int, int], object]) -> io.BytesIO:
    """The bytes of a recorded file, none of which was parsed.

    Raises CheckpointUnusable, or StorageFailed for a store that cannot be reached.
    """
    try:
        with storage.open(ref.path) as stream:
            size = stream.seek(0, io.SEEK_END)
            if size != ref.size_bytes:
                raise CheckpointUnusable(f"it has {size} bytes instead of {ref.size_bytes}")
            stream.seek(0)
            # One read serves the hash and the parser, so that no other bytes can slip in between.
            whole = io.BytesIO(stream.read())
    except FileNotFoundError:
        if storage.seems_away(ref.path):
            raise StorageFailed(
                "The checkpoint store is empty, though checkpoints were recorded in it. Mount it, or correct "
                "PERDURE_STORAGE_URL of this worker."
            ) from None
        raise CheckpointUnusable("its file is missing") from None
    except OSError as error:
        storage.probe()  # a disk that fails altogether says nothing about this file
        raise CheckpointUnusable(f"it cannot be read: {error.strerror or error}") from error
    found = sha256_of(whole, lambda done: on_bytes(done, size))
    if found != ref.sha256:
        raise CheckpointUnusable(f"its SHA-256 is {found} instead of {ref.sha256}")
    whole.seek(0)
    return whole


def parse(verified: io.BytesIO) -> dict[str, Any]:
    """Raises CheckpointFormatUnknown for a checkpoint that only newer code can read."""
    content: dict[str, Any] = torch.load(verified, map_location="cpu", weights_only=True)
    if content.get("format_version") not in READABLE_FORMATS:
        raise CheckpointFormatUnknown(
            f"The checkpoint has format {content.get('format_version')!r} and this worker knows those up to "
            f"{CHECKPOINT_FORMAT}; upgrade the worker and retry."
        )
    return content


def read_whole(storage: Storage, ref: FileRef, frozen: FileRef | None) -> dict[str, Any]:
    """A checkpoint with every tensor; no file is parsed before the hashes of all are right.

    Raises CheckpointDamaged, CheckpointFormatUnknown, or StorageFailed for a store that cannot be reached.
    """
    try:
        files = [read_verified(storage, each, lambda *_: None) for each in (ref, frozen) if each is not None]
    except CheckpointUnusable as unusable:
        raise CheckpointDamaged(
            f"A stored file of this checkpoint is damaged: {unusable}. Choose another checkpoint, or restore "
            "the store; a job that goes on repairs what it needs."
        ) from unusable
    content, *others = (parse(file) for file in files)
    # What is frozen lies before what learns, so this is the network's own order.
    tensors = {name: tensor for each in others for name, tensor in each["model_state_dict"].items()}
    return {**content, "model_state_dict": {**tensors, **content["model_state_dict"]}, "frozen": None}
