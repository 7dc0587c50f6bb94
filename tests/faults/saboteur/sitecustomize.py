"""Loaded by the interpreters of processes under test (PYTHONPATH): breaks them from the inside.

Trainers by the name of their job, or all of a worker that has ``SABOTAGE`` in its environment:

- ``crash``: the trainer aborts as soon as it has its task, every time;
- ``kill-supervisor``: it takes its supervisor down instead;
- ``crash-after-checkpoints``: it dies right after each checkpoint that it wrote;

and in its first attempt, after its first checkpoint,

- ``block``: the training thread waits for a lock that nobody releases;
- ``segfault``: it follows a null pointer;
- ``hog``: it takes all the memory that there is.

For all whose worker has ``SABOTAGE_PACE`` in its environment, a folder: each step is noted in its file
``steps``, and as long as its file ``dawdle`` exists, each step after the first snapshot takes longer than the
one before it, up to as many seconds as the file says: a job is under way when its first checkpoint is
committed, and goes on for minutes, on a machine that is slow to write and one that is quick to train, too.

A process with ``exit-before-bell`` as its ``SABOTAGE`` is gone when it would ring for the first time.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Any

#: And not before a checkpoint was written, which a slow machine may take longer for.
BREAKS_AT_STEP = 7
DAWDLE_SECONDS = 0.05  #: more for each step


class Plan:
    """What this trainer is to suffer."""

    kind = ""
    attempt = 0
    steps = 0
    checkpoints = 0
    snapshots = 0
    dawdled = 0
    pace = Path(os.environ["SABOTAGE_PACE"]) if "SABOTAGE_PACE" in os.environ else None


def wait_for_a_lock_that_nobody_releases() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def follow_a_null_pointer() -> None:
    ctypes.string_at(0)


def take_all_memory() -> None:
    taken = []
    while True:
        taken.append(b"\1" * 50_000_000)


def note_step(pace: Path) -> None:
    with (pace / "steps").open("ab", buffering=0) as journal:
        journal.write(f"{Plan.attempt}\n".encode())


def dawdle(pace: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        at_most = float((pace / "dawdle").read_text())
        Plan.dawdled += 1
        # Under libfaketime `time.sleep` may fail.
        select.select([], [], [], min(at_most, DAWDLE_SECONDS * Plan.dawdled))


BREAKS = {
    "block": wait_for_a_lock_that_nobody_releases,
    "segfault": follow_a_null_pointer,
    "hog": take_all_memory,
}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


#: As `python -m` is told: what forks trainers, and a trainer that starts cold.
if {"worker.zygote", "worker.training"} & set(sys.orig_argv):
    from worker import wire
    from worker.messages import CheckpointWritten, StepDone
    from worker.training.session import Session
    from worker.training.writer import CheckpointWriter

    read_task, boundary, send = wire.read_task, Session.boundary, Session.send
    start_write = CheckpointWriter.start

    def sabotaged_read_task(inbox: int) -> Any:
        task: Any = read_task(inbox)
        Plan.kind = os.environ.get("SABOTAGE") or task.spec["name"] or ""
        Plan.attempt = task.attempt
        if Plan.kind in BREAKS and task.attempt > 1:
            Plan.kind = ""
        if Plan.kind == "crash":
            os.abort()
        if Plan.kind == "kill-supervisor":
            os.kill(parent_of(os.getppid()), signal.SIGKILL)
            signal.pause()
        return task

    def sabotaged_boundary(self: Session) -> None:
        if Plan.kind in BREAKS and Plan.steps >= BREAKS_AT_STEP and Plan.checkpoints:
            BREAKS[Plan.kind]()
        boundary(self)

    def sabotaged_send(self: Session, message: Any) -> None:
        is_step = isinstance(message, StepDone)
        if is_step and Plan.pace is not None:
            note_step(Plan.pace)
        send(self, message)
        Plan.steps += is_step
        Plan.checkpoints += isinstance(message, CheckpointWritten)
        if Plan.kind == "crash-after-checkpoints" and isinstance(message, CheckpointWritten):
            os.kill(os.getpid(), signal.SIGKILL)
        if is_step and Plan.pace is not None and Plan.snapshots:
            dawdle(Plan.pace)

    def sabotaged_start_write(self: CheckpointWriter, *args: Any, **options: Any) -> None:
        Plan.snapshots += 1
        start_write(self, *args, **options)

    wire.read_task, Session.boundary, Session.send = sabotaged_read_task, sabotaged_boundary, sabotaged_send
    CheckpointWriter.start = sabotaged_start_write  # type: ignore[method-assign]

if os.environ.get("SABOTAGE") == "exit-before-bell":
    from models.queue import Doorbell

    Doorbell.ring = lambda *_: os._exit(1)  # type: ignore[method-assign]
