"""Checkpoint files: ``torch.save`` archives that ``torch.load(path, weights_only=True)`` opens anywhere."""

import io
from collections.abc import Callable
from typing import IO, Any, cast

import torch
import uuid_utils

from models.errors import CheckpointFormatUnknown
from models.storage import HashingWriter, Storage, sha256_of
from worker.messages import CheckpointRef, CheckpointWritten
from worker.training.fingerprint import CHECKPOINT_FORMAT
from worker.training.state import RunState

OnBytes = Callable[[int], object]


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


def write(
    storage: Storage, job_id: str, attempt: int, content: dict[str, Any], on_bytes: OnBytes
) -> CheckpointWritten:
    """Make a checkpoint durable under a name that was never used before. Raises StorageFailed."""
    state = RunState.from_dict(content)
    identifier = f"ckpt_{uuid_utils.uuid7().hex}"
    name = f"epoch-{state.epoch:04d}.step-{state.step:06d}.attempt-{attempt}.{identifier}.pth"
    # The archive is written from front to back; torch asks for no more than write and flush.
    stored = storage.write(
        f"jobs/{job_id}/checkpoints/{name}",
        lambda sink: torch.save({"format_version": CHECKPOINT_FORMAT, **content}, _as_file(sink)),
        on_bytes,
    )
    return CheckpointWritten(
        id=identifier,
        path=stored.key,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        epoch=state.epoch,
        step=state.step,
        val_loss=state.val_loss,
    )


def read_verified(storage: Storage, ref: CheckpointRef, on_bytes: Callable[[int, int], object]) -> io.BytesIO:
    """The bytes of a recorded checkpoint, none of which was parsed. Raises CheckpointUnusable."""
    try:
        with storage.open(ref.path) as stream:
            size = stream.seek(0, io.SEEK_END)
            if size != ref.size_bytes:
                raise CheckpointUnusable(f"it has {size} bytes instead of {ref.size_bytes}")
            stream.seek(0)
            # One read serves the hash and the parser, so that no other bytes can slip in between.
            whole = io.BytesIO(stream.read())
    except FileNotFoundError:
        raise CheckpointUnusable("its file is missing") from None
    except OSError as error:
        raise CheckpointUnusable(f"it cannot be read: {error.strerror or error}") from error
    found = sha256_of(whole, lambda done: on_bytes(done, size))
    if found != ref.sha256:
        raise CheckpointUnusable(f"its SHA-256 is {found} instead of {ref.sha256}")
    whole.seek(0)
    return whole


def parse(verified: io.BytesIO) -> dict[str, Any]:
    """Raises CheckpointFormatUnknown for a checkpoint that only newer code can read."""
    content: dict[str, Any] = torch.load(verified, map_location="cpu", weights_only=True)
    if content.get("format_version") != CHECKPOINT_FORMAT:
        raise CheckpointFormatUnknown(
            f"The checkpoint has format {content.get('format_version')!r} and this worker knows "
            f"{CHECKPOINT_FORMAT}; upgrade the worker and retry."
        )
    return content


def _as_file(sink: HashingWriter) -> IO[bytes]:
    return cast(IO[bytes], sink)
