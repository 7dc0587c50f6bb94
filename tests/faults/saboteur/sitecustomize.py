"""Loaded by the interpreters of workers under test (PYTHONPATH): breaks trainers from the inside.

By the name of their job, or all of a worker that has ``SABOTAGE`` in its environment:

- ``crash``: the trainer aborts as soon as it has its task, every time;
- ``kill-supervisor``: it takes its supervisor down instead;
- ``crash-after-checkpoints``: it dies right after each checkpoint that it wrote;
- ``block``: in its first attempt the training thread waits for a lock that nobody releases.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

BLOCKS_AT_STEP = 7


class Plan:
    """What this trainer is to suffer."""

    kind = ""
    steps = 0


def wait_for_a_lock_that_nobody_releases() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if any("worker.zygote" in argument for argument in sys.orig_argv):
    from worker import wire
    from worker.messages import CheckpointWritten, StepDone
    from worker.training.session import Session

    read_task, boundary, send = wire.read_task, Session.boundary, Session.send

    def sabotaged_read_task(inbox: int) -> Any:
        task: Any = read_task(inbox)
        Plan.kind = os.environ.get("SABOTAGE") or task.spec["name"] or ""
        if Plan.kind == "block" and task.attempt > 1:
            Plan.kind = ""
        if Plan.kind == "crash":
            os.abort()
        if Plan.kind == "kill-supervisor":
            os.kill(parent_of(os.getppid()), signal.SIGKILL)
            signal.pause()
        return task

    def sabotaged_boundary(self: Session) -> None:
        if Plan.kind == "block" and Plan.steps >= BLOCKS_AT_STEP:
            wait_for_a_lock_that_nobody_releases()
        boundary(self)

    def sabotaged_send(self: Session, message: Any) -> None:
        send(self, message)
        Plan.steps += isinstance(message, StepDone)
        if Plan.kind == "crash-after-checkpoints" and isinstance(message, CheckpointWritten):
            os.kill(os.getpid(), signal.SIGKILL)

    wire.read_task, Session.boundary, Session.send = sabotaged_read_task, sabotaged_boundary, sabotaged_send
