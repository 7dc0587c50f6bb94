"""Fault 23: a job that breaks whatever runs it is given up, and one that gets further each time is not."""

import signal
from typing import Any

import pytest
from sqlalchemy import update

from models import job_store
from models.job_store.endings import MAX_LOSSES
from models.tables import jobs
from tests.faults.sabotage import python_path
from tests.faults.untouched import UntouchedRuns
from tests.images import draw_dataset
from tests.results import event_types
from tests.specs import full_fine_tune

#: What differs between the databases is in the contract suite.
KINDS = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])


def poison(name: str, epochs: int = 2, max_failures: int = 5) -> dict[str, Any]:
    return full_fine_tune(epochs, name=name, fault_tolerance={"max_failures": max_failures})


@KINDS
def test_a_trainer_that_dies_before_its_first_step_every_time(kind: str, make_stack: Any) -> None:
    with make_stack(kind, PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(poison("crash"))
        failed = stack.await_status(job_id, "failed")
        assert failed["error"]["code"] == "no_progress"
        assert "5 failures in a row" in failed["error"]["message"] and "SIGABRT" in failed["error"]["message"]
        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        assert [row["end_cause"] for row in attempts] == ["trainer_killed"] * 5
        # After two tries in a row others may have it, in turns with whatever else there is to do.
        assert event_types(stack, job_id).count("restarted") == 1
        assert {row["status"] for row in stack.rows("/workers")} == {"online"}
        stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")


# Each worker takes seconds to start: in the quick one most of the ten were lost before.
@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "losses"), [("sqlite", 2), pytest.param("postgresql", MAX_LOSSES, marks=pytest.mark.hours)]
)
def test_a_job_that_kills_its_supervisor(kind: str, losses: int, make_stack: Any) -> None:
    with make_stack(kind, PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        job_id = stack.submit(poison("kill-supervisor"))
        with stack.db.writing() as tx:
            tx.execute(update(jobs).values(losses=MAX_LOSSES - losses))
        for _ in range(losses):
            assert stack.start_worker().wait(60) == -signal.SIGKILL
        failed = stack.await_status(job_id, "failed", seconds=30)
        assert failed["error"]["code"] == "no_progress"
        assert "10 workers in a row were lost" in failed["error"]["message"]
        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        assert [row["end_cause"] for row in attempts] == ["worker_lost"] * losses
        assert job_store.get_job(stack.db, job_id).failures == 0


@pytest.mark.long
def test_a_job_that_gets_further_each_time_is_not_given_up(make_stack: Any, untouched: UntouchedRuns) -> None:
    spec = poison("crash-after-checkpoints", epochs=4, max_failures=2)
    quiet = untouched(full_fine_tune(4), per_class=10)
    with make_stack("sqlite", PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(spec)
        finished = stack.await_status(job_id, "succeeded")
        assert finished["recoveries"] >= 4 > 2
        quiet.check(stack, job_id)
        assert job_store.get_job(stack.db, job_id).failures <= 1
