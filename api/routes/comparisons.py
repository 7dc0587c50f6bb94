"""Comparing jobs."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.comparing import Comparison, compare
from api.dependencies import IN_DIGITS, AfterNumber, DatabaseDep, JobIds
from api.openapi import problems
from models import job_store

router = APIRouter(tags=["jobs"])

MAX_EPOCHS = 1000


@router.get("/jobs/compare", responses=problems(404))
def compare_jobs(
    job_ids: JobIds,
    db: DatabaseDep,
    after: AfterNumber = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_EPOCHS, description="How many epochs at most."), IN_DIGITS
    ] = 100,
) -> Comparison:
    """What the specs of some jobs differ in, and what came of it, epoch by epoch."""
    jobs = [job_store.get_job(db, job_id) for job_id in job_ids]
    # Of each job, its last sealed row and one page of all.
    last = [job_store.epoch_metrics(db, job.id, after=max(0, job.epochs_done - 1), limit=1) for job in jobs]
    epochs = [job_store.epoch_metrics(db, job.id, after=after, limit=limit + 1) for job in jobs]
    return compare(jobs, [next(iter(rows), None) for rows in last], epochs, limit)
