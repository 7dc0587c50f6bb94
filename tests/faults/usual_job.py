"""The job that most tests of faults break: what it comes to untouched is trained once for all of them."""

from tests.faults.partitions import await_commit
from tests.faults.sabotage import Pace
from tests.specs import full_fine_tune
from tests.stack import Stack

EPOCHS = 6
SPEC = full_fine_tune(EPOCHS)
PER_CLASS = 50  #: images of the drawn dataset


def under_way(stack: Stack, pace: Pace) -> str:
    """It takes its time from its first commit on, so that no fault comes too late for it."""
    pace.dawdle()
    job_id = stack.submit(SPEC)
    await_commit(stack, job_id)
    return job_id
