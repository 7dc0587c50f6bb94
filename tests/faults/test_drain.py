"""A worker that is drained hands its job back without loss, and claims nothing until it is enabled."""

from typing import Any

import pytest

from models import job_store
from tests.faults.test_planned_stops import amid_an_epoch
from tests.images import draw_dataset
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack


def ask(stack: Stack, worker_id: str, verb: str) -> dict[str, Any]:
    answer = stack.http.post(f"/workers/{worker_id}/{verb}")
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_drained_worker_loses_no_step_and_claims_no_more(kind: str, make_stack: Any) -> None:
    with make_stack(kind) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=100)
        stack.start_api()
        first = stack.start_worker()
        quiet = stack.submit(full_fine_tune(3))
        untouched = stack.await_status(quiet, "succeeded")

        job_id = stack.submit(full_fine_tune(3))
        worker_id = amid_an_epoch(stack, job_id).worker_id
        assert ask(stack, worker_id, "drain")["status"] == "draining"
        assert ask(stack, worker_id, "drain")["status"] == "draining", "asked again"
        stack.await_status(job_id, "queued", seconds=20)
        handed_back = job_store.get_job(stack.db, job_id)
        assert handed_back.step == handed_back.committed_step > 0
        assert handed_back.failures == handed_back.losses == handed_back.recoveries == 0

        # Bells and reconcilers ring for it again and again; the beats go on, and so does the drain.
        beats = {stack.rows("/workers")[0]["heartbeat_at"] for _ in range(2)}
        until(lambda: stack.rows("/workers")[0]["heartbeat_at"] > max(beats), seconds=20, what="a beat")
        assert stack.job(job_id)["status"] == "queued"
        assert stack.rows("/workers")[0]["status"] == "draining"
        assert first.poll() is None

        assert ask(stack, worker_id, "enable")["status"] == "online"
        resumed = stack.await_status(job_id, "succeeded")
        first_attempt, second = stack.rows(f"/jobs/{job_id}/attempts")
        assert (first_attempt["end_cause"], second["steps_redone"]) == ("preempted", 0)
        assert first_attempt["worker_id"] == second["worker_id"] == worker_id
        assert resumed["weights_sha256"] == untouched["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
