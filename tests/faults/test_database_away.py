"""Faults 9 and 16: the database goes away and comes back; nothing is lost, nothing runs twice."""

import time
from typing import Any

import httpx2 as httpx
import pytest

from tests.faults.partitions import LEASE_SECONDS
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.results import event_types
from tests.servers.waiting import until


@pytest.mark.long
@pytest.mark.parametrize(
    ("lease", "seconds"),
    # Past the lease; and a whole minute under the settings of production.
    [(LEASE_SECONDS, 1.5 * LEASE_SECONDS), pytest.param(15.0, 60.0, marks=pytest.mark.hours)],
)
def test_a_job_outlives_a_database_that_is_killed_and_started_again(
    lease: float, seconds: float, make_stack: Any, postgres: Any, pace: Pace, quiet: Untouched
) -> None:
    settings = {"PERDURE_LEASE_SECONDS": str(lease), "PERDURE_HEARTBEAT_SECONDS": str(lease / 3)}
    with make_stack("postgresql", **pace.environment, **settings) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker()
        job_id = under_way(stack, pace)
        postgres.kill()
        began, at_first = time.monotonic(), pace.num_steps()
        try:
            assert stack.api is not None
            answer = until(
                lambda: _when(stack.http.get(f"/jobs/{job_id}"), 503), seconds=20, what="the API to say 503"
            )
            assert answer.json()["code"] == "database_unavailable"
            assert int(answer.headers["Retry-After"]) > 0
            assert stack.http.get("/health/live").status_code == 200
            assert stack.http.get("/health/ready").status_code == 503
            assert "Traceback" not in answer.text
            assert stack.api.poll() is None
            until(lambda: pace.num_steps() > at_first, what="it to train on while its lease is valid")
            until(lambda: "lease.not_renewed" in stack.log_of(worker), seconds=20, what="a renewal to fail")
            until(lambda: time.monotonic() - began > seconds, seconds=seconds, what="the end of the outage")
        finally:
            pace.hurry()
            postgres.start()
        resumed = stack.await_status(job_id, "succeeded")
        assert resumed["attempt"] == 1, "a worker that could not renew because nobody could keeps its job"
        assert "parked" in event_types(stack, job_id), "beyond its lease it waited"
        quiet.check(stack, job_id)


def _when(answer: httpx.Response, status: int) -> httpx.Response | None:
    return answer if answer.status_code == status else None
