"""The long version of the kills: another network, loading workers, stochastic depth, mid-epoch commits.

``KILLS`` in the environment sets how many there are for each database and number of loading workers.
"""

import os
from typing import Any

import pytest

from tests.faults.killing import Killer, report
from tests.faults.sabotage import Pace
from tests.faults.untouched import UntouchedRuns
from tests.images import draw_dataset
from tests.specs import full_fine_tune

pytestmark = pytest.mark.long

#: With those of ``make test`` there are two hundred.
KILLS = int(os.environ.get("KILLS", "45"))
#: Long enough that the job still runs at the last kill.
EPOCHS = 10 + 5 * KILLS // 4
PER_CLASS = 30  #: images


@pytest.mark.parametrize("loading_workers", ["0", "2"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.timeout(300 + 60 * KILLS)
def test_many_kills_with_stochastic_depth_and_commits_within_epochs(
    kind: str,
    loading_workers: str,
    make_stack: Any,
    pace: Pace,
    untouched: UntouchedRuns,
    record_property: Any,
) -> None:
    spec = full_fine_tune(
        EPOCHS,
        model={"arch": "efficientnet_b0", "weights": None, "freeze": "none", "dropout": 0.3},
        fault_tolerance={"max_failures": 100, "checkpoint_every": {"epochs": 1, "seconds": 1.0}},
    )
    quiet = untouched(spec, per_class=PER_CLASS, optimizer=True)
    with make_stack(kind, PERDURE_LOADING_WORKERS=loading_workers, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()
        job_id = stack.submit(spec)
        killer = Killer(stack, job_id, pace, seed=len(kind) + int(loading_workers))
        victims = [killer.trainer] * 7 + [killer.zygote, killer.supervisor, killer.whole_worker]
        for number in range(KILLS):
            # Every third in a checkpoint write.
            (killer.in_checkpoint_write if number % 3 == 2 else killer.in_mid_epoch)()
            victims[number % len(victims)]()
        stack.await_status(job_id, "succeeded", seconds=60 + 30 * KILLS)

        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        record_property("kills", report(killer.kills, attempts))
        assert len(killer.kills) == KILLS
        quiet.check(stack, job_id)
        with_uncommitted_work = sum(row["steps_redone"] > 0 for row in attempts)
        assert with_uncommitted_work >= KILLS / 2, "kills that cost nothing prove little"
        assert sum(kill.in_write for kill in killer.kills) >= KILLS / 10
