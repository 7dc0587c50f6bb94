"""Submitting, listing and showing jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from api.answers import JobBody, Page, SubmittedJob
from api.body import body_of
from api.dependencies import AfterJob, CallerDep, JobId, Limit, Services, ServicesDep
from api.filters import METADATA_PARAMETER, CreatedAfter, CreatedBefore, MetadataFilter
from api.idempotency import REPLAYED, OnceDep, Reply
from api.job_body import job_bodies, job_body, would_be
from api.openapi import problems, request_body
from api.validation import checked
from models import job_store
from models.errors import IdempotencyMismatch
from models.job_spec import JobSpec, Name
from models.job_state import JobStatus
from models.job_store.submission import Created

router = APIRouter(tags=["jobs"])

EXAMPLE: dict[str, Any] = {
    "name": "flowers",
    "dataset": {"path": "flowers4"},
    "model": {"arch": "efficientnet_b1", "weights": "DEFAULT", "freeze": "backbone", "dropout": 0.3},
    "hyperparameters": {"epochs": 4, "batch_size": 32, "optimizer": "adam", "lr": 0.001},
    "seed": 0,
}


@router.post(
    "/jobs",
    status_code=201,
    response_model=SubmittedJob,
    responses={
        200: {"model": SubmittedJob, "description": "The dry run: the job as it would be."},
        **problems(409, body=True),
    },
    openapi_extra=request_body(JobSpec, EXAMPLE),
)
def submit(
    spec: Annotated[JobSpec, Depends(body_of(JobSpec))],
    services: ServicesDep,
    caller: CallerDep,
    once: OnceDep,
    dry_run: Annotated[bool, Query(description="Validate only: nothing is stored.")] = False,
) -> Response:
    """Queue a job, once its spec holds against the real dataset and architecture."""

    def respond() -> Reply:
        resolved, warnings = checked(spec, services.settings, services.db, caller.tenant_id)
        if dry_run:
            return Reply(200, _submitted(would_be(resolved), warnings))
        services.store_quota.expect_room(caller.tenant_id)
        # The key is in the job's row too: a crash between this commit and the answer leaves one job.
        created = job_store.create_job(
            services.db, resolved, tenant_id=caller.tenant_id, idempotency_key=once.key,
            max_queued=services.settings.max_queued_jobs,
        )  # fmt: skip
        if created.is_new:
            services.doorbell.ring(created.job.device_class)
        return submission_reply(services, created, resolved, warnings)

    # A dry run has no effect, so it must not use up the key of the real submission that follows.
    return respond().response() if dry_run else once(respond)


def submission_reply(services: Services, created: Created, spec: JobSpec, warnings: list[str]) -> Reply:
    """201. Raises IdempotencyMismatch where the key had made a job of another spec."""
    if not created.is_new and created.job.spec != spec.to_json():
        raise IdempotencyMismatch
    body = job_body(services.db, services.settings, created.job)
    headers = {"Location": f"/jobs/{created.job.id}"}
    return Reply(
        201, _submitted(body, warnings), headers if created.is_new else {**headers, REPLAYED: "true"}
    )


@router.get("/jobs", responses=problems(), openapi_extra={"parameters": [METADATA_PARAMETER]})
def list_jobs(
    services: ServicesDep,
    caller: CallerDep,
    metadata: MetadataFilter,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    name: Annotated[Name | None, Query(description="Only jobs of exactly this name.")] = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Limit = 20,
    after: AfterJob = None,
) -> Page[JobBody]:
    """Jobs, the newest first."""
    rows = job_store.list_jobs(
        services.db,
        tenant_id=caller.tenant_id,
        status=status,
        name=name,
        metadata=metadata,
        created_after=created_after,
        created_before=created_before,
        after=after,
        limit=limit + 1,
    )
    bodies = job_bodies(services.db, services.settings, rows[:limit])
    return Page(data=bodies, has_more=len(rows) > limit, last_id=bodies[-1].id if bodies else None)


@router.get("/jobs/{job_id}", responses=problems(404))
def show_job(job_id: JobId, services: ServicesDep) -> JobBody:
    """One job as it stands."""
    return job_body(services.db, services.settings, job_store.get_job(services.db, job_id))


def _submitted(body: JobBody, warnings: list[str]) -> SubmittedJob:
    return SubmittedJob(**dict(body), warnings=warnings)
