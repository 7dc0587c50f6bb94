"""A job begins: one row, queued."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Float, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database, deferred_now, deferred_unix_now
from models.dataset_store.records import require_ready
from models.identifiers import new_id
from models.job_spec import JobSpec, Segment
from models.job_state import EventType, JobStatus
from models.job_store.changes import put_metadata
from models.job_store.fence import FIRST_NUMBERS, JobRow, append_event
from models.job_store.quotas import expect_room_in_queue
from models.tables import jobs
from models.webhooks import outbox

#: Parts of a spec that change when or by whom something is computed, and never what.
_UNDECIDING = {"name", "metadata", "priority", "fault_tolerance"}


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
    parent: JobRow | None = None,
    max_queued: int | None = None,
) -> Created:
    """Queue a job. With a key that was used before, the job that it made then.

    A clone of ``parent`` takes over the numerics, so that it ends with the same bits, unless it is to compute
    something else. Raises SpecInvalid, DatasetNotReady, DatasetInvalid for a dataset by id that cannot be
    used now, and QuotaExceeded where its tenant would have more than ``max_queued`` jobs in the queue.
    """
    job_id = new_id("job")
    row = {
        **_row(spec),
        **_numerics(spec, parent),
        "id": job_id,
        "tenant_id": tenant_id,
        "idempotency_key": idempotency_key,
        "parent_id": parent.id if parent else None,
        **FIRST_NUMBERS,
    }
    with db.writing() as tx:
        job = tx.execute(_queueing(db.is_sqlite), {**row, **db.clock_values()}).one_or_none()
        if job is None:
            before = select(jobs).where(
                jobs.c.tenant_id == tenant_id, jobs.c.idempotency_key == idempotency_key
            )
            return Created(tx.execute(before).one(), is_new=False)
        if spec.dataset.id is not None:  # after the key was looked at: a job that was made stays made
            require_ready(tx, spec.dataset.id, tenant_id)
        put_metadata(tx, job_id, tenant_id, spec.metadata)
        append_event(tx, db, job, EventType.CREATED, "Submitted.", attempt=0)
        expect_room_in_queue(tx, db, tenant_id, max_queued)
        return Created(job, is_new=True)


@cache
def _queueing(is_sqlite: bool) -> Any:
    """One statement, since of two requests that looked first both could find nothing."""
    now, unix_now = deferred_now(is_sqlite=is_sqlite), deferred_unix_now(is_sqlite=is_sqlite)
    return (
        (sqlite if is_sqlite else postgresql)
        .insert(jobs)
        .values(created_at=now, queued_at=now, exact_until=unix_now + bindparam("alike_seconds", type_=Float))
        .on_conflict_do_nothing(index_elements=["tenant_id", "idempotency_key"])
        .returning(jobs, outbox.IS_WANTED)
    )


def _numerics(spec: JobSpec, parent: JobRow | None) -> dict[str, Any]:
    """Where the numerics are known, a worker that computes alike is waited for, as by every later attempt."""
    if parent is None or parent.numerics is None or not _computes_alike(spec.to_json(), parent.spec):
        return {"numerics": None, "numerics_slot": None, "alike_seconds": 0.0}
    return {
        "numerics": parent.numerics,
        "numerics_slot": parent.numerics_slot,
        "alike_seconds": spec.fault_tolerance.exact_wait_seconds,
    }


def _computes_alike(spec: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two specs differ in nothing that decides the bits."""
    return _deciding(spec) == _deciding(other)


def _deciding(spec: dict[str, Any]) -> dict[str, Any]:
    resources = {**spec["resources"], "max_runtime_seconds": None}
    return {**{name: part for name, part in spec.items() if name not in _UNDECIDING}, "resources": resources}


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
        "dataset_id": spec.dataset.id,
    }
