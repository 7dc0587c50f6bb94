"""``python -m benchmarks.noting_worker FILE``: a worker like any other, that also notes when steps are done.

The worker's own records say when an attempt did its first step, but step rows are flushed once a second,
which is too coarse for the step that catches up. So each message of a trainer is noted right before the
supervisor acts on it. Nothing else differs from ``python -m worker``.
"""

import os
import sys
from pathlib import Path

from benchmarks.step_log import READY, SAVED, STEP, StepLogWriter
from worker.__main__ import main
from worker.attempt import Attempt
from worker.messages import CheckpointWritten, FromTrainer, StepDone
from worker.zygote_keeper import ZygoteKeeper


def take_notes(path: Path) -> None:
    """From now on, in this process."""
    log = StepLogWriter(path)
    handle, wait_ready = Attempt.handle, ZygoteKeeper.wait_ready

    def noting_handle(attempt: Attempt, message: FromTrainer) -> None:
        if isinstance(message, StepDone):
            log.note(attempt.fence.job_id, attempt.fence.attempt, STEP, message.step)
        handle(attempt, message)
        if isinstance(message, CheckpointWritten):  # a checkpoint once it is recorded, not before
            log.note(attempt.fence.job_id, attempt.fence.attempt, SAVED, message.step)

    def noting_wait_ready(keeper: ZygoteKeeper, timeout: float) -> bool:
        is_ready = wait_ready(keeper, timeout)
        if is_ready:
            log.note("-", 0, READY, os.getpid())
        return is_ready

    Attempt.handle = noting_handle  # type: ignore[method-assign]
    ZygoteKeeper.wait_ready = noting_wait_ready  # type: ignore[method-assign]


if __name__ == "__main__":
    take_notes(Path(sys.argv.pop(1)))  # the rest is the worker's
    sys.exit(main())
