"""What can be changed of a job whatever its state: how it is called, and how urgent it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, update

from models.database import Database
from models.errors import NotFound, SpecInvalid
from models.job_spec import MAX_METADATA
from models.job_store.fence import JobRow, locked
from models.tables import job_metadata, jobs


@dataclass(frozen=True)
class Changes:
    """What is to be set; a key that is missing stays as it is."""

    columns: Mapping[str, Any]  #: of ``name`` and ``priority``
    #: A JSON merge patch (RFC 7396): a value is set, None takes the name away; None as a whole takes all.
    metadata: Mapping[str, str | None] | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Changes":
        columns = {name: given[name] for name in ("name", "priority") if name in given}
        return cls(columns, given.get("metadata", {}))


def change_job(db: Database, job_id: str, changes: Changes, tenant_id: str = "default") -> JobRow:
    """Raises NotFound, SpecInvalid for more metadata than a job may have.

    The spec stays as it was submitted. A queued job's priority counts from the next claim on, and in its new
    lane it stands by its age.
    """
    with db.writing() as tx:
        job = locked(tx, job_id)
        if job.tenant_id != tenant_id:
            raise NotFound(f"There is no job {job_id!r}; `GET /jobs` lists those that exist.")
        metadata = merged(job.metadata, changes.metadata)
        if len(metadata) > MAX_METADATA:
            raise SpecInvalid(f"A job has at most {MAX_METADATA} metadata.", field="metadata")
        changed = tx.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(**changes.columns, metadata=metadata)
            .returning(jobs)
        ).one()
        if metadata != job.metadata:
            tx.execute(delete(job_metadata).where(job_metadata.c.job_id == job_id))
            put_metadata(tx, job_id, tenant_id, metadata)
        return changed


def merged(before: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    """The metadata after a merge patch."""
    if patch is None:
        return {}
    return {name: value for name, value in {**before, **patch}.items() if value is not None}


def put_metadata(tx: Connection, job_id: str, tenant_id: str, metadata: Mapping[str, str]) -> None:
    """The rows that lists are filtered by; the job has none yet."""
    rows = [
        {"tenant_id": tenant_id, "name": name, "value": value, "job_id": job_id}
        for name, value in metadata.items()
    ]
    if rows:
        tx.execute(insert(job_metadata).returning(job_metadata.c.name), rows).close()
