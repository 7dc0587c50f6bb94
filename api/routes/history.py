"""What happened to a job: its audit trail, its ledger of attempts, its checkpoints, its trainers' output."""

import re
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import PlainTextResponse

from api.answers import Attempt, Checkpoint, JobEvent, Page
from api.dependencies import (
    IN_DIGITS,
    MAX_INTEGER,
    AfterCheckpoint,
    AfterNumber,
    DatabaseDep,
    JobId,
    Limit,
    ServicesDep,
)
from api.openapi import problems
from api.pages import page
from models import job_store
from models.storage import Storage

router = APIRouter(tags=["history"])

_LOG_NAME = re.compile(r"attempt-(\d{1,9})\.log")
_DEFAULT_LOG_BYTES = 2**18
_MAX_LOG_BYTES = 2**22


@router.get("/jobs/{job_id}/events", responses=problems(404))
def events(job_id: JobId, db: DatabaseDep, after: AfterNumber = 0, limit: Limit = 20) -> Page[JobEvent]:
    """The audit trail, oldest first; every change of state is in it."""
    rows = job_store.job_events(db, job_id, after=after, limit=limit + 1)
    return page(rows, limit, "sequence", JobEvent.model_validate)


@router.get("/jobs/{job_id}/attempts", responses=problems(404))
def attempts(job_id: JobId, db: DatabaseDep, after: AfterNumber = 0, limit: Limit = 20) -> Page[Attempt]:
    """The ledger: who ran the job, from which checkpoint, why that ended, and what it cost."""
    rows = job_store.job_attempts(db, job_id, after=after, limit=limit + 1)
    return page(rows, limit, "attempt", Attempt.model_validate)


@router.get("/jobs/{job_id}/checkpoints", responses=problems(404))
def checkpoints(
    job_id: JobId, db: DatabaseDep, after: AfterCheckpoint = None, limit: Limit = 20
) -> Page[Checkpoint]:
    """Every checkpoint ever recorded, newest first; those that are committed can be downloaded."""
    rows = job_store.job_checkpoints(db, job_id, after=after, limit=limit + 1)
    return page(rows, limit, "id", Checkpoint.model_validate)


@router.get("/jobs/{job_id}/logs", responses=problems(404), response_class=PlainTextResponse)
def logs(
    job_id: JobId,
    services: ServicesDep,
    attempt: Annotated[
        int | None,
        Query(ge=1, le=MAX_INTEGER, description="Only of this attempt; by default of all."),
        IN_DIGITS,
    ] = None,
    max_bytes: Annotated[
        int,
        Query(ge=1, le=_MAX_LOG_BYTES, description="The end of the output is what is shown."),
        IN_DIGITS,
    ] = _DEFAULT_LOG_BYTES,
) -> PlainTextResponse:
    """What the job's trainers printed; empty while there is nothing."""
    job_store.get_job(services.db, job_id)
    numbers = _logged_attempts(services.storage, job_id) if attempt is None else [attempt]
    # From the last attempt backwards, until there is enough.
    parts: list[str] = []
    for number in reversed(numbers):
        text = _tail(services.storage, f"jobs/{job_id}/logs/attempt-{number}.log", max_bytes)
        heading = f"--- attempt {number} ---\n" if attempt is None else ""
        if text:
            parts.append(heading + text.decode(errors="replace"))
        max_bytes -= len(text)
        if max_bytes <= 0:
            break
    return PlainTextResponse("".join(reversed(parts)))


def _logged_attempts(storage: Storage, job_id: str) -> list[int]:
    names = (key.rsplit("/", 1)[-1] for key in storage.keys(f"jobs/{job_id}/logs"))
    return sorted(int(found[1]) for name in names if (found := _LOG_NAME.fullmatch(name)))


def _tail(storage: Storage, key: str, max_bytes: int) -> bytes:
    try:
        with storage.open(key) as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - max_bytes))
            return stream.read(max_bytes)
    except FileNotFoundError:
        return b""
