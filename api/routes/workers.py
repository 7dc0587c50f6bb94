"""The fleet: who is there, and who may claim."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.answers import Page, WorkerBody
from api.body import NoBody, body_of
from api.dependencies import AfterText, Limit, Services, ServicesDep, WorkerId
from api.idempotency import OnceDep, Reply
from api.openapi import problems, request_body
from api.pages import page
from models import job_store
from models.database import Database
from models.job_store.fence import JobRow
from models.job_store.fleet import PRESENT

router = APIRouter(tags=["fleet"])

Nothing = Annotated[NoBody, Depends(body_of(NoBody))]
_ASKED = problems(404, 409, body=True)


@router.get("/workers", responses=problems())
def workers(services: ServicesDep, after: AfterText = None, limit: Limit = 20) -> Page[WorkerBody]:
    """One entry per device slot; those that ended are shown for a day."""
    rows = job_store.list_workers(services.db, after=after, limit=limit + 1)
    return page(rows, limit, "id", lambda row: _worker(row, _silent_after(services)))


@router.post(
    "/workers/{worker_id}/drain", status_code=202, response_model=WorkerBody, responses=_ASKED,
    openapi_extra=request_body(NoBody),
)  # fmt: skip
def drain(worker_id: WorkerId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Let a worker hand its job back, with a checkpoint, and claim no more until it is enabled."""
    return _ask(services, once, worker_id, job_store.drain_worker)


@router.post(
    "/workers/{worker_id}/enable", status_code=202, response_model=WorkerBody, responses=_ASKED,
    openapi_extra=request_body(NoBody),
)  # fmt: skip
def enable(worker_id: WorkerId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Let a worker claim again that was drained, or that had quarantined itself."""
    return _ask(services, once, worker_id, job_store.enable_worker)


def _ask(
    services: Services, once: OnceDep, worker_id: str, act: Callable[[Database, str], JobRow]
) -> Response:
    """202: the worker hears of it with its next heartbeat."""
    return once(lambda: Reply(202, _worker(act(services.db, worker_id), _silent_after(services))))


def _silent_after(services: Services) -> float:
    return 2 * services.settings.lease_seconds


def _worker(row: JobRow, silent_after: float) -> WorkerBody:
    age = row.heartbeat_age_seconds
    is_of_this_boot = age >= 0.0  # on one host leases go by the time since boot, which starts anew
    is_lost = row.status in PRESENT and not (is_of_this_boot and age <= silent_after)
    return WorkerBody(
        id=row.id,
        status="lost" if is_lost else row.status,
        status_reason=row.quarantine_reason,
        device=row.device,
        slot=row.slot,
        threads=row.threads,
        host=row.host,
        pid=row.pid,
        version=row.version,
        job_id=None if is_lost else row.job_id,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        heartbeat_age_seconds=round(
            age if is_of_this_boot else (datetime.now(UTC) - row.heartbeat_at).total_seconds(), 3
        ),
    )
