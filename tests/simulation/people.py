"""Those who submit jobs and steer them; they ask again when they get no answer."""

from collections.abc import Callable
from typing import Any

from models import job_store
from models.errors import DatabaseUnavailable, WrongState
from models.job_spec import JobSpec
from tests.simulation.fleet import Fleet
from tests.simulation.kernel import kernel
from tests.simulation.world import world

_STEERING = ("pause", "cancel", "resume", "retry", "extend")


def random_spec() -> JobSpec:
    random = kernel().random
    return JobSpec.model_validate(
        {
            "dataset": {"path": "flowers4"},
            "seed": random.randrange(100),
            "hyperparameters": {
                "epochs": random.choice([1, 2, 2, 3]),
                "batch_size": random.choice([2, 3]),
                "scheduler": random.choice(["constant", "cosine"]),
            },
            "fault_tolerance": {
                "keep_last": random.choice([1, 2, 2]),
                "checkpoint_every": {"seconds": random.choice([1.0, 1.0, 2.0])},
                "verify_on_resume": random.random() < 0.2,
                "max_failures": random.choice([3, 5, 5]),
            },
        }
    )


def submit_and_steer(fleet: Fleet, number: int) -> None:
    """One user's job, and what that user does to it."""
    random, spec = kernel().random, random_spec()
    kernel().sleep(random.uniform(0.0, 4.0))
    created = _persist(lambda: job_store.create_job(fleet.db, spec, idempotency_key=f"key-{number}"))
    world().counts["jobs"] += 1
    if random.random() < 0.7:  # else the API dies between the commit and the bell
        fleet.ring("any")
    for _ in range(random.choice([0, 0, 0, 1, 2, 3])):
        kernel().sleep(random.uniform(0.0, 8.0))
        steer(fleet, created.job.id, random.choice(_STEERING))


def steer(fleet: Fleet, job_id: str, how: str) -> None:
    more: tuple[Any, ...] = (1,) if how == "extend" else ()
    try:
        _persist(lambda: getattr(job_store, how)(fleet.db, job_id, *more))
    except WrongState:
        return
    world().counts[how] += 1
    kernel().note(how, job_id)


def _persist(request: Callable[[], Any]) -> Any:
    while True:
        try:
            return request()
        except DatabaseUnavailable:
            kernel().sleep(0.5)
