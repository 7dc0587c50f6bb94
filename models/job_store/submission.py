"""A job begins: one row, queued."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.identifiers import new_id
from models.job_spec import JobSpec, Segment
from models.job_state import EventType, JobStatus
from models.job_store.fence import JobRow, record
from models.job_store.quotas import expect_room_in_queue
from models.tables import jobs


@dataclass(frozen=True)
class Created:
    job: JobRow
    is_new: bool  #: False when this idempotency key had made the job already


def create_job(
    db: Database,
    spec: JobSpec,
    *,
    tenant_id: str = "default",
    idempotency_key: str | None = None,
    parent_id: str | None = None,
    max_queued: int | None = None,
) -> Created:
    """Queue a job. With a key that was used before, the job that it made then.

    Raises QuotaExceeded where its tenant would have more than ``max_queued`` jobs in the queue.
    """
    job_id = new_id("job")
    dialect = sqlite if db.is_sqlite else postgresql
    with db.writing() as tx:
        # One statement, since of two requests that looked first both could find nothing.
        inserted = tx.execute(
            dialect.insert(jobs)
            .values(
                **_row(spec),
                id=job_id,
                tenant_id=tenant_id,
                idempotency_key=idempotency_key,
                parent_id=parent_id,
                created_at=db.now(),
                queued_at=db.now(),
                exact_until=db.unix_now(),
            )
            .on_conflict_do_nothing(index_elements=["tenant_id", "idempotency_key"])
            .returning(jobs.c.id)
        ).one_or_none()
        if inserted is None:
            before = select(jobs).where(
                jobs.c.tenant_id == tenant_id, jobs.c.idempotency_key == idempotency_key
            )
            return Created(tx.execute(before).one(), is_new=False)
        record(tx, db, job_id, EventType.CREATED, "Submitted.", attempt=0)
        expect_room_in_queue(tx, db, tenant_id, max_queued)
        return Created(tx.execute(select(jobs).where(jobs.c.id == job_id)).one(), is_new=True)


def _row(spec: JobSpec) -> dict[str, Any]:
    hyperparameters, tolerance = spec.hyperparameters, spec.fault_tolerance
    segment = Segment(epochs=hyperparameters.epochs, scheduler=hyperparameters.scheduler)
    return {
        "name": spec.name,
        "metadata": spec.metadata,
        "priority": spec.priority,
        "spec": spec.to_json(),
        "segments": [segment.model_dump()],
        "device_class": "any" if spec.resources.device == "auto" else spec.resources.device,
        "status": JobStatus.QUEUED,
        "epochs": hyperparameters.epochs,
        "max_failures": tolerance.max_failures,
        "max_runtime_seconds": spec.resources.max_runtime_seconds,
        "exact_wait_seconds": tolerance.exact_wait_seconds,
        "inexact_reasons": [],
    }
