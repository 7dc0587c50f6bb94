"""Deleting a finished job: first its rows, in one transaction, then its files.

A crash between the two leaves files of a job that is gone, whose id ``deleted_jobs`` keeps: the next look, or
the same request again, clears them away. One between clearing and forgetting the id leaves an id without
files, which the next look forgets.

A worker that lost the job long ago may still be writing a file that nobody will record, or handing in a log.
So an id is forgotten only when its files were looked for an hour after the deletion, when no trainer of the
job lives any more: one without a lease ends by itself within ten minutes.
"""

from sqlalchemy import delete, insert, select

from models.database import Database, unix_of
from models.errors import NotFound, WrongState
from models.job_state import FINISHED
from models.tables import deleted_jobs, jobs

#: Until then a process that lost the job may leave files behind.
LINGERING_SECONDS = 3600.0


def delete_job(db: Database, job_id: str, tenant_id: str = "default") -> None:
    """The job with all its rows; its files are for the caller to clear away. Raises NotFound, WrongState.

    Deleted a second time, while files may be left, it is deleted already.
    """
    known = select(deleted_jobs.c.job_id).where(
        deleted_jobs.c.job_id == job_id, deleted_jobs.c.tenant_id == tenant_id
    )
    with db.writing() as tx:
        if tx.execute(known).first() is not None:
            return
        mine = select(jobs.c.status).where(jobs.c.id == job_id, jobs.c.tenant_id == tenant_id)
        job = tx.execute(mine.with_for_update()).one_or_none()
        if job is None:
            raise NotFound("There is no job with that id; `GET /jobs` lists those that exist.")
        if job.status not in FINISHED:
            raise WrongState(f"The job is {job.status}; only a finished job can be deleted. Cancel it first.")
        tx.execute(delete(jobs).where(jobs.c.id == job_id))  # and by the foreign keys whatever is its own
        tx.execute(insert(deleted_jobs).values(job_id=job_id, tenant_id=tenant_id, deleted_at=db.now()))


def jobs_to_clear(db: Database, *, limit: int = 100) -> list[str]:
    """Ids of deleted jobs whose files have to be looked for, the oldest first."""
    with db.reading() as tx:
        left = select(deleted_jobs.c.job_id).order_by(deleted_jobs.c.deleted_at, deleted_jobs.c.job_id)
        return list(tx.execute(left.limit(limit)).scalars())


def cleared(db: Database, job_id: str, *, lingering_seconds: float = LINGERING_SECONDS) -> bool:
    """The files of a deleted job were cleared away just now; whether that is for good."""
    long_ago = unix_of(deleted_jobs.c.deleted_at, is_sqlite=db.is_sqlite) <= db.unix_now() - lingering_seconds
    with db.writing() as tx:
        gone = tx.execute(delete(deleted_jobs).where(deleted_jobs.c.job_id == job_id, long_ago))
        return gone.rowcount > 0
