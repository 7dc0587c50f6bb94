"""A job with a frozen backbone stores it once, survives what any job survives, and leaves no garbage."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.killing import Killer, report
from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.results import event_types, expect_equal_results
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

HEAD_ONLY = {"arch": "mobilenet_v3_small", "weights": None, "freeze": "backbone", "dropout": 0.3}
EPOCHS = 25


def files_of(stack: Stack, job_id: str) -> tuple[list[Path], list[Path]]:
    """Checkpoints and frozen parts, leftovers included."""
    folder = stack.home / "storage/jobs" / job_id
    return sorted(folder.glob("checkpoints/*")), sorted(folder.glob("frozen/*"))


@pytest.mark.long
@pytest.mark.parametrize("freeze", ["backbone", pytest.param(8, marks=pytest.mark.hours)])
@pytest.mark.timeout(400)
def test_a_job_with_frozen_layers_is_killed(
    freeze: Any, make_stack: Any, pace: Pace, tmp_path: Path, record_property: Any
) -> None:
    spec = full_fine_tune(EPOCHS, model=HEAD_ONLY | {"freeze": freeze})
    with make_stack("sqlite", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        stack.start_worker()
        quiet = stack.submit(spec)
        stack.await_status(quiet, "succeeded")

        job_id = stack.submit(spec)
        killer = Killer(stack, job_id, pace, seed=1)
        for moment, victim in (
            (killer.in_mid_epoch, killer.trainer),
            (killer.in_checkpoint_write, killer.trainer),
            (killer.in_mid_epoch, killer.whole_worker),
            (killer.in_mid_epoch, killer.trainer),
        ):
            moment()
            victim()
        stack.await_status(job_id, "succeeded")
        record_property("kills", report(killer.kills, stack.rows(f"/jobs/{job_id}/attempts")))
        expect_equal_results(stack, job_id, quiet, tmp_path)

        for each in (quiet, job_id):
            committed = [r for r in stack.rows(f"/jobs/{each}/checkpoints") if r["status"] == "committed"]
            found, [frozen] = files_of(stack, each)
            recorded = {Path(row["path"]).name for row in committed}
            assert {path.name for path in found} == recorded, "what killed attempts left is cleared away"
            if freeze == "backbone":
                assert all(row["size_bytes"] < frozen.stat().st_size / 10 for row in committed)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_damaged_frozen_part_is_made_again(make_stack: Any, pace: Pace) -> None:
    spec = full_fine_tune(EPOCHS, model=HEAD_ONLY)
    with make_stack("sqlite", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(spec)
        untouched = stack.await_status(quiet, "succeeded")
        job_id = stack.submit(spec)
        killer = Killer(stack, job_id, pace, seed=2)
        until(lambda: files_of(stack, job_id)[1], seconds=60, what="the frozen part")
        killer.in_mid_epoch()
        [frozen] = files_of(stack, job_id)[1]
        content = bytearray(frozen.read_bytes())
        content[random.Random(3).randrange(len(content))] ^= 1
        frozen.write_bytes(content)
        killer.trainer()
        finished = stack.await_status(job_id, "succeeded")
        assert finished["weights_sha256"] == untouched["weights_sha256"]
        assert event_types(stack, job_id).count("frozen_part.rebuilt") == 1
        assert "checkpoint.quarantined" not in event_types(stack, job_id)
