"""What a trainer says, as rows for the database."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from worker.messages import CheckpointWritten, EpochMetrics, StepRow
from worker.wire import finite


def step_rows(rows: Iterable[StepRow]) -> list[dict[str, Any]]:
    return [asdict(row) | {"loss": finite(row.loss)} for row in rows]


def epoch_row(row: EpochMetrics) -> dict[str, Any]:
    return asdict(row) | {"train_loss": finite(row.train_loss), "val_loss": finite(row.val_loss)}


def checkpoint_row(written: CheckpointWritten) -> dict[str, Any]:
    frozen = asdict(written.frozen) if written.frozen else dict.fromkeys(("path", "sha256", "size_bytes"))
    return {
        "id": written.id,
        "epoch": written.epoch,
        "step": written.step,
        "val_loss": None if written.val_loss is None else finite(written.val_loss),
        **asdict(written.file),
        **{f"frozen_{name}": value for name, value in frozen.items()},
    }
