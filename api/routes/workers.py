"""The fleet: who is there, and who may claim."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.answers import Page, WorkerBody
from api.body import NoBody, body_of
from api.caller import Caller
from api.dependencies import AfterText, CallerDep, Limit, Services, ServicesDep
from api.idempotency import OnceDep, Reply
from api.ids import WorkerId
from api.openapi import problems, request_body
from api.pages import page
from models import job_store
from models.job_store.fence import JobRow
from models.job_store.fleet import PRESENT

router = APIRouter(tags=["fleet"])

Nothing = Annotated[NoBody, Depends(body_of(NoBody))]
_ASKED = problems(404, 409, body=True)


@router.get("/workers", responses=problems())
def workers(
    services: ServicesDep, caller: CallerDep, after: AfterText = None, limit: Limit = 20
) -> Page[WorkerBody]:
    """One entry per device slot; those that ended are shown for a day."""
    rows = job_store.list_workers(services.db, after=after, limit=limit + 1)
    return page(rows, limit, "id", lambda row: _worker(row, services, caller.tenant_id))


@router.post(
    "/workers/{worker_id}/drain", status_code=202, response_model=WorkerBody, responses=_ASKED,
    openapi_extra=request_body(NoBody),
)  # fmt: skip
def drain(
    worker_id: WorkerId, _: Nothing, services: ServicesDep, caller: CallerDep, once: OnceDep
) -> Response:
    """Let a worker hand its job back, with a checkpoint, and claim no more until it is enabled."""
    return _ask(services, once, caller, lambda: job_store.drain_worker(services.db, worker_id))


@router.post(
    "/workers/{worker_id}/enable", status_code=202, response_model=WorkerBody, responses=_ASKED,
    openapi_extra=request_body(NoBody),
)  # fmt: skip
def enable(
    worker_id: WorkerId, _: Nothing, services: ServicesDep, caller: CallerDep, once: OnceDep
) -> Response:
    """Let a worker claim again that was drained, or that had quarantined itself."""
    return _ask(services, once, caller, lambda: job_store.enable_worker(services.db, worker_id))


def _ask(services: Services, once: OnceDep, caller: Caller, act: Callable[[], JobRow]) -> Response:
    """202: the worker hears of it with its next heartbeat."""
    return once(lambda: Reply(202, _worker(act(), services, caller.tenant_id)))


def _worker(row: JobRow, services: Services, tenant_id: str) -> WorkerBody:
    age = row.heartbeat_age_seconds
    is_of_this_boot = age >= 0.0  # on one host leases go by the time since boot, which starts anew
    is_silent = not (is_of_this_boot and age <= 2 * services.settings.lease_seconds)
    is_lost = row.status in PRESENT and is_silent
    is_anothers = row.job_tenant_id not in {None, tenant_id}
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
        job_id=None if is_lost or is_anothers else row.job_id,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        heartbeat_age_seconds=round(
            age if is_of_this_boot else (datetime.now(UTC) - row.heartbeat_at).total_seconds(), 3
        ),
    )
