"""Faults 9 and 16: the database goes away and comes back; nothing is lost, nothing runs twice."""

from typing import Any

import httpx2 as httpx

from models import job_store
from tests.images import draw_dataset
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune


def test_a_job_outlives_a_database_that_is_killed_and_started_again(make_stack: Any, postgres: Any) -> None:
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        worker = stack.start_worker()
        quiet = stack.submit(full_fine_tune(8))
        untouched = stack.await_status(quiet, "succeeded")

        job_id = stack.submit(full_fine_tune(8))
        until(
            lambda: job_store.get_job(stack.db, job_id).committed_step > 0, seconds=30, what="a first commit"
        )
        postgres.kill()
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
            # Past the lease: whoever looks at it now must not take it back.
            until(lambda: "lease.not_renewed" in stack.log_of(worker), seconds=20, what="a renewal to fail")
        finally:
            postgres.start()
        resumed = stack.await_status(job_id, "succeeded")
        assert resumed["attempt"] == 1, "a worker that could not renew because nobody could keeps its job"
        assert resumed["weights_sha256"] == untouched["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)


def _when(answer: httpx.Response, status: int) -> httpx.Response | None:
    return answer if answer.status_code == status else None
