"""Faults of the checkpoint store: what is in it is damaged, or it takes nothing more."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from models.job_state import JobStatus
from models.tables import checkpoints, jobs
from tests.soak.fleet import Fleet
from tests.stack import tree

#: Below the smallest checkpoint, above whatever else a trainer writes.
_ROOM_BYTES = 16_384


def damage(fleet: Fleet, target: int, do: Callable[[Path], object]) -> dict[str, Any]:
    """The newest checkpoint of a job that has epochs to go: it must never be needed for the result."""
    newest = fleet.rows(
        select(checkpoints.c.path)
        .join(jobs, jobs.c.id == checkpoints.c.job_id)
        .where(
            jobs.c.status.in_([JobStatus.RUNNING, JobStatus.QUEUED]),
            checkpoints.c.status == "committed",
            checkpoints.c.step == jobs.c.committed_step,
            checkpoints.c.epoch < jobs.c.epochs,
            jobs.c.epochs_done < jobs.c.epochs,
        )
        .order_by(checkpoints.c.id)
    )
    if not newest:
        return {"nothing": True}
    path = newest[target % len(newest)].path
    with contextlib.suppress(FileNotFoundError):  # pruned a moment ago
        do(fleet.home / "storage" / path)
    return {"path": path}


def flip_a_byte(file: Path, share: float) -> None:
    """At that share of its length."""
    with file.open("r+b") as stream:
        at = int(share * (file.stat().st_size - 1))
        stream.seek(at)
        [byte] = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte ^ 0xFF]))
        stream.flush()
        os.fsync(stream.fileno())


# -- A full disk ---------------------------------------------------------------------------------------


def fill(fleet: Fleet, number: int) -> None:
    """As a full disk is to who writes: short writes, then an error in mid-file, until ``make_room``.

    A limit of the process (EFBIG) stands for ENOSPC, since a disk that can be filled takes root to mount. The
    supervisor is spared: it writes its log, which is no part of the store.
    """
    for process in tree(fleet.workers[number].pid)[1:]:
        _limit(process, _ROOM_BYTES)


def make_room(fleet: Fleet) -> None:
    """Also for a trainer that is forked by a limited zygote while this looks."""
    for worker in fleet.workers:
        while sum(_limit(process, None) for process in tree(worker.pid)):
            pass


def _limit(process: psutil.Process, num_bytes: int | None) -> bool:
    """Of any one file that it writes. Whether that changed anything."""
    with contextlib.suppress(psutil.NoSuchProcess):
        soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        wanted = hard if num_bytes is None else num_bytes
        process.rlimit(psutil.RLIMIT_FSIZE, (wanted, hard))
        return soft != wanted
    return False
