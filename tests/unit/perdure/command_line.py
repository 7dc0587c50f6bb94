"""What tests of the command line share: its shape as a fixture, and a job as the server describes it."""

from collections.abc import Callable
from typing import Any

JOB: dict[str, Any] = {
    "id": "job_1",
    "name": "[red]flowers\x1b[2J",
    "status": "succeeded",
    "attempt": 3,
    "recoveries": 2,
    "exact": True,
    "progress": {"epoch": 4, "epochs_done": 4, "epochs": 4, "step": 40, "steps": 40, "percent": 100.0},
    "best": {"epoch": 3, "val_loss": 0.25, "val_accuracy": 0.9, "checkpoint_id": "ckpt_1"},
    "weights_sha256": "ab" * 32,
    "spec": {
        "dataset": {"path": "flowers"},
        "model": {"arch": "efficientnet_b1", "weights": "DEFAULT", "freeze": 2},
    },
    "created_at": "2025-01-01T00:00:00Z",
    "started_at": "2025-01-01T00:00:01Z",
    "finished_at": "2025-01-01T00:01:00Z",
}
#: The arguments to exit code, stdout and stderr.
Run = Callable[..., tuple[int, str, str]]
