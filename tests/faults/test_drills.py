"""Drills, carried out for real: what they report is true, they spend nothing, and the job stays exact."""

from pathlib import Path
from typing import Any

import pytest

from models import job_store
from tests.faults.killing import Killer
from tests.faults.sabotage import Pace
from tests.faults.test_stalls import STALL_SECONDS
from tests.faults.untouched import UntouchedRuns
from tests.faults.usual_job import PER_CLASS
from tests.images import draw_dataset
from tests.results import event_types
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

EPOCHS = 14


def drill(stack: Stack, job_id: str, fault: str) -> dict[str, Any]:
    """Asked for, and seen through to its end."""
    answer = stack.http.post(f"/jobs/{job_id}/drill", json={"fault": fault})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "requested"

    def over() -> Any:
        last = stack.rows(f"/jobs/{job_id}/drills")[-1]
        return last if last["status"] not in {"requested", "recovering"} else None

    report: dict[str, Any] = until(over, seconds=60, what=f"the end of {fault}")
    assert (report["id"], report["fault"]) == (answer.json()["id"], fault)
    return report


# What differs between the databases is in the contract suite.
@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_every_drill_is_survived_and_free(
    kind: str, make_stack: Any, pace: Pace, record_property: Any, untouched: UntouchedRuns
) -> None:
    # With a budget of a single failure, any drill that counted would end the job.
    spec = full_fine_tune(EPOCHS, fault_tolerance={"max_failures": 1})
    quiet = untouched(spec, per_class=PER_CLASS)
    settings = {"PERDURE_DRILLS": "true", "PERDURE_STALL_SECONDS": STALL_SECONDS}
    with make_stack(kind, **settings, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()
        before = job_store.seconds_between_failures(stack.db)

        # A drill is heard of with the next write or renewal: the job must not be over by then.
        pace.dawdle(at_most=0.1)
        job_id = stack.submit(spec)
        reports = []
        for fault in ("kill_trainer", "corrupt_checkpoint", "stall", "kill_worker"):
            Killer(stack, job_id, pace, seed=1).in_mid_epoch()
            reports.append(drill(stack, job_id, fault))
        pace.hurry()
        finished = stack.await_status(job_id, "succeeded")
        record_property("kills", "\n".join(map(described, reports)))

        for report in reports:
            assert report["status"] == "recovered" and report["recovered"] and report["exact"], report
            assert 0.0 <= report["detected_seconds"] <= report["running_again_seconds"]
        assert finished["exact"] is True
        quiet.check(stack, job_id)

        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        assert [(row["end_cause"], row["drill"]) for row in attempts] == [
            ("trainer_killed", reports[0]["id"]),
            ("trainer_killed", reports[1]["id"]),
            ("stalled", reports[2]["id"]),
            ("worker_lost", reports[3]["id"]),
            ("finished", None),
        ]
        assert sum(row["steps_redone"] for row in attempts) > 0
        types = event_types(stack, job_id)
        assert types.count("drill.requested") == types.count("drill.carried_out") == 4
        assert types.count("checkpoint.quarantined") == 1
        [damaged] = [
            row for row in stack.rows(f"/jobs/{job_id}/checkpoints") if row["status"] == "quarantined"
        ]
        assert damaged["id"] == reports[1]["checkpoint_id"]
        assert reports[1]["steps_redone"] > 0, "the checkpoint before it lies further back"
        assert job_store.seconds_between_failures(stack.db) >= before, "drills are no failures of the fleet"
        gone = [worker for worker in stack.workers if worker.poll() is not None]
        assert [worker.returncode for worker in gone] == [-9], "one worker killed itself"
        assert not Path(f"/proc/{attempts[3]['trainer_pid']}/exe").exists(), "and left no trainer behind"


def described(report: dict[str, Any]) -> str:
    return (
        f"  {report['fault']:18} detected {report['detected_seconds']:7.3f} s, running again"
        f" {report['running_again_seconds']:7.3f} s, {report['steps_redone']:3} steps redone,"
        f" exact {report['exact']}"
    )
