"""Training metrics, as JSON pages or as CSV."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from api.answers import EpochMetrics, Page, StepMetrics
from api.dependencies import IN_DIGITS, AfterNumber, DatabaseDep, JobId
from api.openapi import problems
from api.pages import page
from models import job_store
from models.database import Database
from models.job_store.fence import JobRow

router = APIRouter(tags=["metrics"])

MAX_ROWS = 1000
Granularity = Literal["epoch", "step"]
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.get(
    "/jobs/{job_id}/metrics",
    response_model=Page[EpochMetrics] | Page[StepMetrics],
    responses=_CSV | problems(404),
)
def metrics(
    job_id: JobId,
    db: DatabaseDep,
    granularity: Granularity = "epoch",
    after: AfterNumber = 0,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MAX_ROWS, description="Rows at most: by default 20 of JSON, and all of CSV."),
        IN_DIGITS,
    ] = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - the contract's name
) -> Any:
    """One row per epoch, or per step, whatever crashed meanwhile."""
    if format == "csv":
        # The first rows are read here, so that what can go wrong does so before the answer begins.
        first = _rows(db, job_id, granularity, after, limit or MAX_ROWS)
        return _csv(db, job_id, granularity, first, is_all=limit is not None)
    number = limit or 20
    shape = EpochMetrics if granularity == "epoch" else StepMetrics
    rows = _rows(db, job_id, granularity, after, number + 1)
    answer: Page[Any] = page(rows, number, granularity, shape.model_validate)
    return answer


def _rows(db: Database, job_id: str, granularity: Granularity, after: int, limit: int) -> list[JobRow]:
    read = job_store.epoch_metrics if granularity == "epoch" else job_store.step_metrics
    return read(db, job_id, after=after, limit=limit)


def _csv(
    db: Database, job_id: str, granularity: Granularity, first: list[JobRow], *, is_all: bool
) -> Response:
    columns = list((EpochMetrics if granularity == "epoch" else StepMetrics).model_fields)

    def chunks() -> Iterator[str]:
        yield _lines([columns])
        rows = first
        while rows:
            yield _lines([[_cell(getattr(row, column)) for column in columns] for row in rows])
            if is_all or len(rows) < MAX_ROWS:
                return
            rows = _rows(db, job_id, granularity, getattr(rows[-1], granularity), MAX_ROWS)

    filename = f"{job_id}-{granularity}s.csv"
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return StreamingResponse(chunks(), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
