"""Faults 1, 7, 8 and 34: SIGKILL of every part at random moments; the result is that of a quiet run."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.killing import Killer, report
from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.results import event_types, expect_equal_results, metrics_of
from tests.specs import full_fine_tune

EPOCHS = 30
#: Most hit a trainer, as most would that come at random; every other process is hit, too. The API is hit in
#: mid-epoch: a trainer that was caught in a write stands still until it is killed itself.
OTHERS = {2: "zygote", 4: "whole_worker", 7: "supervisor", 11: "whole_worker", 15: "supervisor", 18: "api"}
NUM_KILLS = 20


@pytest.mark.timeout(600)
def test_a_job_killed_twenty_times_ends_like_one_that_was_left_alone(
    make_stack: Any, pace: Pace, tmp_path: Path, record_property: Any
) -> None:
    with make_stack("postgresql", PERDURE_LOADING_WORKERS="2", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=30)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()

        quiet = stack.submit(full_fine_tune(EPOCHS))
        other_seed = stack.submit(full_fine_tune(EPOCHS, seed=8))
        untouched = stack.await_status(quiet, "succeeded")
        control = stack.await_status(other_seed, "succeeded")
        assert untouched["attempt"] == control["attempt"] == 1
        assert control["weights_sha256"] != untouched["weights_sha256"], "the hash cannot tell runs apart"

        job_id = stack.submit(full_fine_tune(EPOCHS))
        killer = Killer(stack, job_id, pace, seed=EPOCHS)
        for number in range(NUM_KILLS):
            # Every third in a checkpoint write.
            (killer.in_checkpoint_write if number % 3 == 1 else killer.in_mid_epoch)()
            getattr(killer, OTHERS.get(number, "trainer"))()
        killed = stack.await_status(job_id, "succeeded")

        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        record_property("kills", report(killer.kills, attempts))

        expect_equal_results(stack, job_id, quiet, tmp_path)
        assert killed["exact"] is True
        assert len(metrics_of(stack, job_id)["epoch"]) == EPOCHS
        steps = [row["step"] for row in metrics_of(stack, job_id)["step"]]
        assert steps == list(range(1, killed["progress"]["steps"] + 1))

        assert "determinism.mismatch" not in event_types(stack, job_id)
        with_uncommitted_work = sum(row["steps_redone"] > 0 for row in attempts)
        assert with_uncommitted_work >= NUM_KILLS / 2, "kills that cost nothing prove little"
        assert sum(kill.in_write for kill in killer.kills) >= NUM_KILLS / 10
