"""Jobs side by side: what was asked differently, and what came of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from api.answers import Answer, Best, EpochMetrics
from models.job_state import JobStatus
from models.job_store.fence import JobRow

#: Another name, a label or a place in the queue makes no other training.
_NOT_COMPARED = ("name", "metadata", "priority")


class ComparedJob(Answer):
    """One of the jobs, and its results."""

    id: str
    name: str | None
    status: JobStatus
    exact: bool
    epochs_done: int
    best: Best | None
    last: EpochMetrics | None = Field(description="Of the last finished epoch.")
    weights_sha256: str | None


class Difference(Answer):
    """A field in which the specs differ."""

    field: str = Field(description="Dotted path into the spec.")
    values: list[Any] = Field(description="One for each job; null also where a spec has no such field.")


class ComparedEpoch(Answer):
    """An epoch of all jobs."""

    epoch: int
    metrics: list[EpochMetrics | None] = Field(description="One for each job; null where it is not done.")


_EXAMPLE_JOB: dict[str, Any] = {
    "id": "job_019e", "name": "flowers", "status": "succeeded", "exact": True, "epochs_done": 4,
    "best": {"epoch": 4, "val_loss": 0.21, "val_accuracy": 0.94, "checkpoint_id": "ckpt_019e"},
    "last": None, "weights_sha256": "5c0f…",
}  # fmt: skip


class Comparison(Answer):
    """Jobs side by side, each list in the order in which they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "comparison",
                "jobs": [_EXAMPLE_JOB, {**_EXAMPLE_JOB, "id": "job_019f", "weights_sha256": "77ab…"}],
                "spec": [{"field": "hyperparameters.lr", "values": [0.001, 0.01]}],
                "same_dataset": True, "same_weights": False, "epochs": [], "has_more": False, "last_id": None,
            }
        }
    )  # fmt: skip

    object: Literal["comparison"] = "comparison"
    jobs: list[ComparedJob]
    spec: list[Difference] = Field(description="Only what differs; names, metadata and priorities aside.")
    same_dataset: bool | None = Field(description="By digest; null until all of them were checked.")
    same_weights: bool | None = Field(
        description="Of the last epochs, bit for bit; null until all jobs succeeded."
    )
    epochs: list[ComparedEpoch]
    has_more: bool = Field(description="There are more epochs; `after=<last_id>` asks for them.")
    last_id: int | None


def compare(
    jobs: Sequence[JobRow], last: Sequence[JobRow | None], epochs: Sequence[Sequence[JobRow]], limit: int
) -> Comparison:
    """``last`` and ``epochs`` are rows of metrics by job, of the latter at most one more than ``limit``."""
    by_number = [{row.epoch: EpochMetrics.model_validate(row) for row in rows} for rows in epochs]
    numbers = sorted({number for rows in by_number for number in rows})
    shown = numbers[:limit]
    return Comparison(
        jobs=[_job(row, final) for row, final in zip(jobs, last, strict=True)],
        spec=differences([row.spec for row in jobs]),
        same_dataset=_same([(row.dataset or {}).get("digest") for row in jobs]),
        same_weights=_same([row.weights_sha256 for row in jobs]),
        epochs=[
            ComparedEpoch(epoch=number, metrics=[rows.get(number) for rows in by_number]) for number in shown
        ],
        has_more=len(numbers) > limit,
        last_id=shown[-1] if shown else None,
    )


def differences(specs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The fields that are not equal in all specs, in the order of the specs."""
    flat = [_flat({name: spec[name] for name in spec if name not in _NOT_COMPARED}) for spec in specs]
    fields = dict.fromkeys(name for each in flat for name in each)
    values = {field: [each.get(field) for each in flat] for field in fields}
    return [
        Difference(field=field, values=found)
        for field, found in values.items()
        if any(value != found[0] for value in found)
    ]


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _same(values: Sequence[str | None]) -> bool | None:
    return None if None in values else len(set(values)) == 1


def _job(row: JobRow, last: JobRow | None) -> ComparedJob:
    best = None
    if row.best_epoch is not None:
        best = Best(
            epoch=row.best_epoch,
            val_loss=row.best_val_loss,
            val_accuracy=row.best_val_accuracy,
            checkpoint_id=row.best_checkpoint_id,
        )
    return ComparedJob(
        id=row.id,
        name=row.name,
        status=row.status,
        exact=row.exact,
        epochs_done=row.epochs_done,
        best=best,
        last=None if last is None else EpochMetrics.model_validate(last),
        weights_sha256=row.weights_sha256,
    )
