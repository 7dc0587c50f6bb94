"""Fault 23: a job that breaks whatever runs it is given up, and one that gets further each time is not."""

from typing import Any

import pytest

from models import job_store
from models.job_store.endings import MAX_LOSSES
from tests.faults.sabotage import python_path
from tests.images import draw_dataset
from tests.results import event_types
from tests.servers.waiting import until
from tests.specs import full_fine_tune

KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


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


# Ten workers have to start one after the other, which is most of the time that this takes.
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_a_job_that_kills_its_supervisor(kind: str, make_stack: Any) -> None:
    with make_stack(kind, PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        job_id = stack.submit(poison("kill-supervisor"))
        for _ in range(MAX_LOSSES):
            stack.start_worker().wait(60)
        failed = stack.await_status(job_id, "failed", seconds=30)
        assert failed["error"]["code"] == "no_progress"
        assert "10 workers in a row were lost" in failed["error"]["message"]
        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        assert [row["end_cause"] for row in attempts] == ["worker_lost"] * MAX_LOSSES
        assert job_store.get_job(stack.db, job_id).failures == 0


def test_a_job_that_gets_further_each_time_is_not_given_up(make_stack: Any) -> None:
    with make_stack("sqlite", PYTHONPATH=python_path()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(full_fine_tune(5))
        untouched = stack.await_status(quiet, "succeeded")
        job_id = stack.submit(poison("crash-after-checkpoints", epochs=5, max_failures=2))
        finished = stack.await_status(job_id, "succeeded")
        assert finished["recoveries"] >= 5 > 2
        assert finished["weights_sha256"] == untouched["weights_sha256"]
        until(lambda: job_store.get_job(stack.db, job_id).failures <= 1)
