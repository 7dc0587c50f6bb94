"""Which checkpoint to go on from: the newest whose files are the ones that were recorded."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from models.errors import WeightsInvalid
from models.storage import Storage
from worker.messages import CheckpointRef, CheckpointRejected, FileRef, FrozenPartRebuilt, Task
from worker.training import checkpoint
from worker.training.network import Classifier
from worker.training.patience import persistently
from worker.training.session import Session
from worker.training.weights_hash import weights_sha256


@dataclass(frozen=True)
class Found:
    """A checkpoint whose bytes are right; nothing was parsed yet."""

    ref: CheckpointRef
    content: io.BytesIO
    frozen: io.BytesIO | None  #: None where it has no frozen part, or that cannot be used
    frozen_problem: str = ""


def newest_usable(task: Task, storage: Storage, session: Session) -> Found | None:
    """In a thread of its own: it may report, but boundaries belong to the training thread.

    Raises StorageFailed when the store stays away.
    """

    def on_bytes(done: int, total: int) -> None:
        session.progress("starting", done, total)

    def read(file: FileRef) -> io.BytesIO:
        # A store that is away says nothing about the file: it must not cost a checkpoint.
        return persistently(
            session, task.store_patience_seconds, lambda: checkpoint.read_verified(storage, file, on_bytes)
        )

    for ref in task.checkpoints:
        try:
            content = read(ref.file)
        except checkpoint.CheckpointUnusable as unusable:
            session.send(CheckpointRejected(ref.id, str(unusable)))
            continue
        if ref.frozen is None:
            return Found(ref, content, None)
        try:
            return Found(ref, content, read(ref.frozen))
        except checkpoint.CheckpointUnusable as unusable:
            # No reason to fall back: older checkpoints need the same frozen part, and it can be made again.
            return Found(ref, content, None, str(unusable))
    return None


def frozen_part(
    found: Found, content: Mapping[str, Any], begin: Callable[[], Classifier], session: Session
) -> tuple[Mapping[str, torch.Tensor], FileRef | None]:
    """The tensors that the checkpoint leaves out, and their file if it is intact.

    What is frozen never changed, so ``begin`` (the network as training began) can stand in for a damaged
    file; the hash in its name says whether it does. Raises WeightsInvalid where it does not.
    """
    if found.ref.frozen is None:
        return {}, None
    if found.frozen is not None:
        tensors: Mapping[str, torch.Tensor] = checkpoint.parse(found.frozen)["model_state_dict"]
        return tensors, found.ref.frozen
    start = begin().module.state_dict()
    tensors = {name: start[name] for name in start.keys() - content["model_state_dict"].keys()}
    if weights_sha256(tensors) != checkpoint.frozen_content_hash(found.ref.frozen.path):
        raise WeightsInvalid(
            f"The stored frozen part {found.ref.frozen.path!r} cannot be used ({found.frozen_problem}), "
            "and the weights are no longer those that the job began with. Restore either of them and retry."
        )
    session.send(FrozenPartRebuilt(found.ref.frozen.path, found.frozen_problem))
    return tensors, None
