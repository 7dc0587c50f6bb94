"""Fault 10: cut off from the broker, running jobs go on, new ones start, and bells are heard again."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from models.queue import TASK_NAME, celery_app, queue_name
from tests.faults.sabotage import Pace
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

RECONCILE_SECONDS = 2.0  #: as in production
#: Reconcilers tick with a jitter of a quarter; for the claim itself, on a machine that is busy.
SLACK_SECONDS = 0.25 * RECONCILE_SECONDS + 2.0

#: Of connections to the broker (models/queue.py): who waits for it while it is silent waits so long.
SOCKET_TIMEOUT_SECONDS = 10.0


@pytest.fixture
def broker() -> Iterator[ValkeyServer]:
    with ValkeyServer(tcp=True) as server:
        yield server


# One that refuses is told at once, like the one that test_broker kills.
@pytest.mark.long
@pytest.mark.parametrize("how", ["blackhole", pytest.param("refuse", marks=pytest.mark.hours)])
def test_everybody_is_cut_off_from_the_broker(
    how: str, make_stack: Any, broker: ValkeyServer, pace: Pace, record_property: Any
) -> None:
    with Proxy(broker.port) as proxy:
        stack = make_stack(
            "postgresql",
            PERDURE_BROKER_URL=f"redis://127.0.0.1:{proxy.port}/0",
            PERDURE_RECONCILE_SECONDS=str(RECONCILE_SECONDS),
            **pace.environment,
        )
        with stack:
            draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
            stack.start_api()
            stack.start_worker()
            stack.start_worker()
            until(lambda: len(stack.rows("/workers")) == 2, seconds=30, what="two workers")
            running = under_way(stack, pace)
            stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")  # the other one has warmed up

            getattr(proxy, how)()
            began = time.monotonic()
            submitted = stack.submit(full_fine_tune(1))
            assert time.monotonic() - began < SOCKET_TIMEOUT_SECONDS / 2, "nobody waits for the broker"
            waited = soonest_claim(stack, submitted)
            assert stack.job(running)["status"] == "running"
            pace.hurry()
            assert stack.await_status(running, "succeeded")["attempt"] == 1
            record_property("measured", f"  {how}: a job waited {waited:.2f} s for its claim")
            assert waited < RECONCILE_SECONDS + SLACK_SECONDS

            proxy.heal(cut=how == "blackhole")
            # The bell takes a way of its own, so that only a worker that listens again can answer it.
            celery_app(broker.url).send_task(TASK_NAME, queue=queue_name("any"), retry=False)
            until(
                lambda: broker.command("LLEN", queue_name("any")) == b":0",
                seconds=60, what="a worker to take a bell again",
            )  # fmt: skip
            stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")


def soonest_claim(stack: Stack, *submitted: str) -> float:
    """Of up to three jobs: a machine that is busy may hold one up, and even two."""
    for job_id in submitted:
        stack.await_status(job_id, "succeeded")
    soonest = min(seconds_until_claimed(stack, job_id) for job_id in submitted)
    if soonest < RECONCILE_SECONDS + SLACK_SECONDS or len(submitted) == 3:
        return soonest
    return soonest_claim(stack, *submitted, stack.submit(full_fine_tune(1)))


def seconds_until_claimed(stack: Stack, job_id: str) -> float:
    """Both instants are the database's."""
    [attempt] = stack.rows(f"/jobs/{job_id}/attempts")
    created_at, started_at = stack.job(job_id)["created_at"], attempt["started_at"]
    return (datetime.fromisoformat(started_at) - datetime.fromisoformat(created_at)).total_seconds()
