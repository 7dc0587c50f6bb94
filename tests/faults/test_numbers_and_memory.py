"""Faults 3 and 24: memory that is too small, and a loss without bounds, each with its policy."""

import resource
from typing import Any

import psutil
import pytest

from tests.faults.killing import Killer
from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack, command_line

EPOCHS = 3
#: Of this network on these images the loss has no bounds until the rate was halved twice.
WILD = {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "scheduler": "constant"}


def wild(policy: str, epochs: int = EPOCHS) -> dict[str, Any]:
    spec = full_fine_tune(epochs, fault_tolerance={"max_failures": 100, "on_non_finite": policy})
    return spec | {"hyperparameters": spec["hyperparameters"] | WILD}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.hours)])
def test_a_loss_without_bounds_is_rolled_back_to_a_lower_rate(kind: str, make_stack: Any, pace: Pace) -> None:
    with make_stack(kind, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        failing = stack.submit(wild("fail"))
        failed = stack.await_status(failing, "failed")
        assert failed["error"]["code"] == "non_finite_loss"
        assert failed["attempt"] == 1, "another try cannot mend it"

        quiet = stack.submit(wild("rollback"))
        untouched = stack.await_status(quiet, "succeeded")
        rollbacks = event_types(stack, quiet).count("rolled_back")
        assert 1 <= rollbacks == len(untouched["segments"][0]["slowdowns"])
        assert untouched["exact"] is True
        rates = {row["learning_rate"] for row in metrics_of(stack, quiet)["step"]}
        assert min(rates) == WILD["lr"] * 0.5**rollbacks

        pace.dawdle()
        job_id = stack.submit(wild("rollback"))
        killer = Killer(stack, job_id, pace, seed=4)
        killer.in_mid_epoch()
        killer.trainer()
        pace.hurry()
        killed = stack.await_status(job_id, "succeeded")
        assert killed["weights_sha256"] == untouched["weights_sha256"], "when it was saved decides nothing"
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
        assert "determinism.mismatch" not in event_types(stack, job_id)


#: What trainers may take beyond what their zygote has: room for a few dozen images at once, not for all.
ROOM_BYTES = 1000 * 2**20
LARGE_BATCH = {"epochs": 2, "batch_size": 160, "image_size": 224}


def limit_trainers(stack: Stack) -> None:
    """A real limit, inherited by every trainer that is forked from here on."""

    def zygote() -> Any:
        children = psutil.Process(stack.workers[0].pid).children()
        return next((child for child in children if "worker.zygote" in command_line(child)), None)

    found = until(zygote, seconds=30, what="the zygote")
    # Its imports are done once it forks: a first job proves that, and what it takes at rest.
    stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")
    limit = found.memory_info().vms + ROOM_BYTES
    resource.prlimit(found.pid, resource.RLIMIT_AS, (limit, limit))


def large(policy: str) -> dict[str, Any]:
    spec = full_fine_tune(2, fault_tolerance={"max_failures": 2, "on_out_of_memory": policy})
    return spec | {"hyperparameters": spec["hyperparameters"] | LARGE_BATCH}


@pytest.mark.long
def test_memory_that_is_too_small_is_named_and_by_policy_worked_around(make_stack: Any) -> None:
    with make_stack("sqlite") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        limit_trainers(stack)

        failing = stack.submit(large("fail"))
        failed = stack.await_status(failing, "failed", seconds=240)
        causes = {row["end_cause"] for row in stack.rows(f"/jobs/{failing}/attempts")}
        assert causes == {"out_of_memory"}
        assert failed["error"]["code"] == "no_progress" and "batch_size" in failed["error"]["message"]

        job_id = stack.submit(large("micro_batches"))
        finished = stack.await_status(job_id, "succeeded", seconds=240)
        parts = finished["numerics"]["micro_batches"]
        assert parts > 1
        assert finished["exact"] is False
        assert finished["inexact_reasons"][0] == "parts of a batch 1 → 2"
        rows = metrics_of(stack, job_id)["step"]
        assert len(rows) == LARGE_BATCH["epochs"], "one step an epoch, as asked for: the batch is the same"
