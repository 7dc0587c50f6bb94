"""The fleet."""

from datetime import UTC, datetime

from fastapi import APIRouter

from api.answers import Page, WorkerBody
from api.dependencies import AfterText, Limit, ServicesDep
from api.openapi import problems
from api.pages import page
from models import job_store
from models.job_store.fence import JobRow

router = APIRouter(tags=["fleet"])


@router.get("/workers", responses=problems())
def workers(services: ServicesDep, after: AfterText = None, limit: Limit = 20) -> Page[WorkerBody]:
    """One entry per device slot; those that ended are shown for a day."""
    silent_after = 2 * services.settings.lease_seconds
    rows = job_store.list_workers(services.db, after=after, limit=limit + 1)
    return page(rows, limit, "id", lambda row: _worker(row, silent_after))


def _worker(row: JobRow, silent_after: float) -> WorkerBody:
    age = row.heartbeat_age_seconds
    is_of_this_boot = age >= 0.0  # on one host leases go by the time since boot, which starts anew
    is_lost = row.status == "online" and not (is_of_this_boot and age <= silent_after)
    return WorkerBody(
        id=row.id,
        status="lost" if is_lost else row.status,
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
