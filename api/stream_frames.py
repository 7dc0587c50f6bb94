"""Lines of a job's stream as Server-Sent Events: what each kind shows, and how it is written."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from fastapi.sse import format_sse_event
from pydantic import Field
from pydantic_core import to_json

from api.answers import Answer, Attempt, Checkpoint, EpochMetrics, JobBody, JobError, JobEvent
from models.job_state import JobStatus, StreamKind
from models.job_store.fence import JobRow
from models.job_store.stream import status_line


class StatusLine(Answer):
    """The job has another status, or was asked to take one."""

    status: JobStatus
    final: bool = Field(description="Finished: the stream ends here, unless it goes on by request.")
    attempt: int
    recoveries: int
    cancel_requested: bool
    pause_requested: bool
    error: JobError | None
    weights_sha256: str | None
    recorded_at: datetime
    job: JobBody | None = Field(description="Only in the line that a stream without a position begins with.")


class EpochLine(EpochMetrics):
    """An epoch is sealed by a checkpoint; one that was told before is replaced."""

    granularity: Literal["epoch"]


class StepOfLine(Answer):
    """One optimizer step of a flush."""

    step: int
    epoch: int
    loss: float | None
    learning_rate: float


class StepsLine(Answer):
    """Steps that were done, about a second's worth; those that were told before are replaced."""

    granularity: Literal["step"]
    epoch: int = Field(description="Of the last step.")
    step: int = Field(description="The last one.")
    attempt: int
    recorded_at: datetime
    rows: list[StepOfLine]


def frame(line: JobRow) -> bytes:
    """A line as the bytes that every client gets."""
    return _written(line.kind, line.sequence, _SHOW[StreamKind(line.kind)](line))


def as_it_stands(row: JobRow, body: JobBody, now: datetime) -> bytes:
    """A ``status`` with the whole job; its number is that of the last line that the job's row had seen."""
    data = status_line(row).data | {"recorded_at": now, "job": body}
    return _written(StreamKind.STATUS, row.stream_count, _only(StatusLine, data))


def frames(lines: Sequence[JobRow]) -> bytes:
    """Lines in a row."""
    return b"".join(map(frame, lines))


def _written(kind: str, sequence: int, data: dict[str, Any]) -> bytes:
    # No line break can be in it: JSON writes those of its strings as \n.
    text = to_json(data, inf_nan_mode="null").decode()
    return format_sse_event(event=kind, id=str(sequence), data_str=text)


def _only(shape: type[Answer], data: dict[str, Any]) -> dict[str, Any]:
    # Not validated: the line may be older than a field that was added since.
    return {name: data.get(name) for name in shape.model_fields}


def _metric(line: JobRow) -> dict[str, Any]:
    told = line.data
    if told["granularity"] == "epoch":
        return _only(EpochLine, told)
    rows = [dict(zip(told["columns"], row, strict=True)) for row in told["rows"]]
    last = {"epoch": rows[-1]["epoch"], "step": rows[-1]["step"]}
    return _only(StepsLine, told | last | {"rows": rows, "recorded_at": line.created_at})


_SHOW: dict[StreamKind, Callable[[JobRow], dict[str, Any]]] = {
    StreamKind.METRIC: _metric,
    StreamKind.STATUS: lambda line: _only(StatusLine, line.data | {"recorded_at": line.created_at}),
    StreamKind.ATTEMPT: lambda line: _only(Attempt, line.data),
    StreamKind.CHECKPOINT: lambda line: _only(Checkpoint, line.data),
    StreamKind.EVENT: lambda line: _only(JobEvent, line.data),
}
