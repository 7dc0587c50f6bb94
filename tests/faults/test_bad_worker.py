"""Fault 31: a machine on which nothing runs takes itself out of service, and the jobs are spared."""

from typing import Any

import pytest

from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune


# What differs between the databases is in the contract suite.
@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_a_worker_that_always_fails_quarantines_itself(kind: str, make_stack: Any, pace: Pace) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        spec = full_fine_tune(2, fault_tolerance={"max_failures": 5})
        # The healthy one is busy until the bad one has shown what it is.
        pace.dawdle()
        long = stack.submit(full_fine_tune(100))
        stack.start_worker()
        stack.await_status(long, "running")
        jobs = [stack.submit(spec | {"seed": seed}) for seed in range(3)]
        bad = stack.start_worker(SABOTAGE="crash")

        def quarantined() -> Any:
            return next((row for row in stack.rows("/workers") if row["status"] == "quarantined"), None)

        row = until(quarantined, seconds=60, what="the bad worker to be quarantined")
        assert row["pid"] == bad.pid
        assert "3 attempts in a row ended here without a step, of 2 jobs" in row["status_reason"]
        pace.hurry()
        assert stack.http.post(f"/jobs/{long}/cancel").status_code == 202
        for job_id in jobs:
            stack.await_status(job_id, "succeeded")
            attempts = stack.rows(f"/jobs/{job_id}/attempts")
            on_bad = [line for line in attempts if line["worker_pid"] == bad.pid]
            assert len(on_bad) <= 2, "a bad worker burns at most two tries of any job"
        ends = [line["end_cause"] for job_id in jobs for line in stack.rows(f"/jobs/{job_id}/attempts")
                if line["worker_pid"] == bad.pid]  # fmt: skip
        assert sorted(ends) == ["preempted", "trainer_killed", "trainer_killed"], "the last one is free"

        enabled = stack.http.post(f"/workers/{row['id']}/enable")
        assert (enabled.status_code, enabled.json()["status"]) == (202, "online")
        assert enabled.json()["status_reason"] is None
