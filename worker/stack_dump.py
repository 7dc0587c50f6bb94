"""Where a stalled trainer hangs, written into its own log before it is killed."""

import os
import signal
import time
from pathlib import Path

from worker.trainer_process import TrainerProcess

#: A trainer that is stopped, or deep in the kernel, cannot answer; nobody waits longer for it.
ANSWER_SECONDS = 1.0
#: A log that has not grown for so long holds all of the answer.
_SETTLED_SECONDS = 0.1


def dump_stacks(trainer: TrainerProcess, log: Path, reason: str) -> bool:
    """Let the trainer print the Python stacks of all its threads; whether it did, within a second."""
    before = _note(log, f"--- {reason} The stacks of all threads: ---")
    trainer.signal(signal.SIGUSR1)
    deadline = time.monotonic() + ANSWER_SECONDS
    size, grown_at = before, 0.0
    while (now := time.monotonic()) < deadline and trainer.exited() is None:
        if (length := _size(log)) > size:
            size, grown_at = length, now
        elif grown_at and now - grown_at > _SETTLED_SECONDS:
            break
        time.sleep(0.01)
    if size > before:
        return True
    _note(log, "--- It did not answer: it is stopped, or waits in the kernel. ---")
    return False


def _note(log: Path, line: str) -> int:
    """Append a line of ours; how long the log is then. A disk that is full must not keep a stall alive."""
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except OSError:
        return _size(log)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
