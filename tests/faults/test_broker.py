"""Faults 10, 14 and 17: the broker is flushed, is away, or was never there; every job still runs."""

from typing import Any

import httpx2 as httpx
import pytest
import redis

from tests.faults.sabotage import python_path
from tests.images import draw_dataset
from tests.specs import full_fine_tune


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_jobs_that_wait_survive_a_flushed_broker(kind: str, make_stack: Any, valkey: Any) -> None:
    with make_stack(kind) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        waiting = [stack.submit(full_fine_tune(1, seed=seed)) for seed in range(3)]
        with redis.Redis(unix_socket_path=str(valkey.socket_path)) as client:
            client.flushall()
        stack.start_worker()
        for job_id in waiting:
            stack.await_status(job_id, "succeeded")


def test_jobs_are_accepted_and_run_while_the_broker_is_away(make_stack: Any, valkey: Any) -> None:
    with make_stack("sqlite") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker()
        running = stack.submit(full_fine_tune(4))
        stack.await_status(running, "running")
        valkey.kill()
        try:
            submitted = stack.submit(full_fine_tune(1))
            assert "broker" in stack.http.get("/health/ready").json()["degraded"]
            assert stack.await_status(running, "succeeded")["attempt"] == 1
            stack.await_status(submitted, "succeeded")
        finally:
            valkey.start()
        stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")


def test_an_api_that_dies_between_the_commit_and_the_bell(make_stack: Any) -> None:
    with make_stack("sqlite", PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_worker()
        stack.start_api(SABOTAGE="exit-before-bell")
        with pytest.raises(httpx.TransportError):
            stack.submit(full_fine_tune(1))
        assert stack.api.wait(10) == 1
        stack.start_api()
        [job] = stack.rows("/jobs")
        assert stack.await_status(job["id"], "succeeded")["attempt"] == 1
