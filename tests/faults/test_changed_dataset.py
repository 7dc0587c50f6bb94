"""Fault 25: a byte of the dataset changes, or an image goes, between attempts: the job ends and names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.faults.partitions import await_commit
from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.specs import full_fine_tune
from tests.stack import Stack

IMAGE = "circle/003.jpg"


def flip_a_bit(image: Path) -> None:
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)


def resumed_after(change: Callable[[Path], None], dataset: str, stack: Stack, pace: Pace) -> dict[str, Any]:
    """A job on a dataset that is changed while no trainer looks."""
    images = draw_dataset(stack.home / "data" / dataset, per_class=10)
    pace.dawdle()
    job_id = stack.submit(full_fine_tune(6, dataset={"path": dataset}))
    await_commit(stack, job_id)
    [attempt] = stack.rows(f"/jobs/{job_id}/attempts")
    trainer = psutil.Process(attempt["trainer_pid"])
    trainer.suspend()
    change(images / IMAGE)
    trainer.kill()
    pace.hurry()
    return stack.await_status(job_id, "failed")


def test_a_job_whose_dataset_was_changed_does_not_go_on(make_stack: Any, pace: Pace) -> None:
    with make_stack("sqlite", **pace.environment) as stack:
        stack.start_api()
        stack.start_worker()
        for dataset, change in (("edited", flip_a_bit), ("thinned", Path.unlink)):
            failed = resumed_after(change, dataset, stack, pace)
            assert failed["error"]["code"] == "dataset_changed"
            assert IMAGE in failed["error"]["message"]
            assert failed["attempt"] == 2, "another try cannot mend it"
            committed = [row["status"] for row in stack.rows(f"/jobs/{failed['id']}/checkpoints")]
            assert set(committed) == {"committed"}, "what was trained before stays"
