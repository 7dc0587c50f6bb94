"""A worker that is drained hands its job back without loss, and claims nothing until it is enabled."""

from typing import Any

import pytest

from models import job_store
from tests.faults.sabotage import Pace
from tests.faults.test_planned_stops import amid_an_epoch
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.stack import Stack


def ask(stack: Stack, worker_id: str, verb: str) -> dict[str, Any]:
    answer = stack.http.post(f"/workers/{worker_id}/{verb}")
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


# What differs between the databases is in the contract suite.
@pytest.mark.long
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.hours), "postgresql"])
def test_a_drained_worker_loses_no_step_and_claims_no_more(
    kind: str, make_stack: Any, pace: Pace, quiet: Untouched
) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        first = stack.start_worker()
        job_id = under_way(stack, pace)
        worker_id = amid_an_epoch(stack, job_id).worker_id
        assert ask(stack, worker_id, "drain")["status"] == "draining"
        assert ask(stack, worker_id, "drain")["status"] == "draining", "asked again"
        stack.await_status(job_id, "queued", seconds=20)
        handed_back = job_store.get_job(stack.db, job_id)
        assert handed_back.step == handed_back.committed_step > 0
        assert handed_back.failures == handed_back.losses == handed_back.recoveries == 0

        # Bells and reconcilers ring for it again and again; the beats go on, and so does the drain.
        seen = stack.rows("/workers")[0]["heartbeat_at"]
        until(lambda: stack.rows("/workers")[0]["heartbeat_at"] > seen, seconds=20, what="a beat")
        assert stack.job(job_id)["status"] == "queued"
        assert stack.rows("/workers")[0]["status"] == "draining"
        assert first.poll() is None

        pace.hurry()
        assert ask(stack, worker_id, "enable")["status"] == "online"
        stack.await_status(job_id, "succeeded")
        first_attempt, second = stack.rows(f"/jobs/{job_id}/attempts")
        assert (first_attempt["end_cause"], second["steps_redone"]) == ("preempted", 0)
        assert first_attempt["worker_id"] == second["worker_id"] == worker_id
        quiet.check(stack, job_id)
