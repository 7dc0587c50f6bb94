"""Room for checkpoints, before any work is done that could not be kept."""

import time

from models.errors import StorageFailed
from worker.messages import CheckpointDelayed
from worker.training.preparation import Attempt
from worker.training.session import Session

_LOOK_AGAIN_SECONDS = 5.0


def await_room(attempt: Attempt, session: Session, patience_seconds: float) -> None:
    """Wait until the store has room: for two checkpoints, or for one more where there is one already.

    Raises StorageFailed when it stays full, StopRequested and CancelRequested.
    """
    one = attempt.learner.checkpoint_bytes()
    needed = one if attempt.resumed_from else 2 * one + attempt.learner.frozen_bytes()
    give_up_at = time.monotonic() + patience_seconds
    while (free := attempt.storage.free_bytes()) is not None and free < needed:
        missing = StorageFailed(
            f"The checkpoint store has {free / 1e6:.0f} MB left, and this job needs {needed / 1e6:.0f} MB "
            "for its checkpoints. Free some space or move the store, and the job goes on."
        )
        if time.monotonic() > give_up_at:
            raise missing
        # Also asks the supervisor to clear away what killed attempts of this job left behind.
        session.send(CheckpointDelayed(missing.message, _LOOK_AGAIN_SECONDS))
        look_again_at = time.monotonic() + _LOOK_AGAIN_SECONDS
        while time.monotonic() < look_again_at:
            session.boundary()
            time.sleep(0.1)
