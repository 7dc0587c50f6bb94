"""Changing what a job is called and how urgent it is; deleting it; cloning it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from api.answers import JobBody, SubmittedJob
from api.body import body_of
from api.dependencies import AnyJobId, CallerDep, JobId, ServicesDep
from api.idempotency import OnceDep, Reply
from api.job_body import job_body
from api.openapi import Responses, problems, request_body
from api.overrides import overridden
from api.routes.jobs import submission_reply
from models import job_store
from models.job_spec import MetadataName, MetadataValue, Name, Priority

router = APIRouter(tags=["jobs"])


class _Job(StringConvertor):
    """In a path: anything but the names of what else is below `/jobs`, which has methods of its own."""

    regex = "(?!compare(?:/|$))[^/]+"


register_url_convertor("job", _Job())


def _left_out(schema: dict[str, Any]) -> None:
    """Leaving a field out means something else than any value of it, so the document names no default."""
    schema.pop("default", None)


class JobChanges(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name | None = Field(
        default=None, description="Null takes the name away.", json_schema_extra=_left_out
    )
    metadata: dict[MetadataName, MetadataValue | None] | None = Field(
        default=None,
        description="A JSON merge patch: values are set, null takes a key away, keys that are not named "
        "stay. Null instead of the object takes all away.",
        json_schema_extra=_left_out,
    )
    priority: Priority = Field(
        default=0, description="Of a queued job: counts from the next claim on.", json_schema_extra=_left_out
    )


class CloneRequest(BaseModel):
    """What is to be different from the source."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overrides: dict[str, Any] = Field(
        default={},
        description="Parts of a spec, merged into the source's: objects part by part, all else replaced.",
    )


_DELETED: Responses = {204: {"description": "The job is gone."}}


@router.patch(
    "/jobs/{job_id:job}",
    responses=problems(404, body=True),
    openapi_extra=request_body(JobChanges, {"name": "flowers, second try", "metadata": {"team": "vision"}}),
)
def change_job(
    job_id: JobId,
    changes: Annotated[JobChanges, Depends(body_of(JobChanges))],
    services: ServicesDep,
    caller: CallerDep,
) -> JobBody:
    """Change a job's name, metadata or priority, whatever its state. The spec stays as it was submitted."""
    given = job_store.Changes.of(changes.model_dump(exclude_unset=True))
    job = job_store.change_job(services.db, job_id, given, caller.tenant_id)
    return job_body(services.db, services.settings, job)


@router.delete(
    "/jobs/{job_id:job}",
    status_code=204,
    response_class=Response,
    responses=_DELETED | problems(403, 404, 409),
)
def delete_job(job_id: AnyJobId, services: ServicesDep, caller: CallerDep) -> Response:
    """Delete a finished job with its metrics, events, checkpoints and logs."""
    job_store.delete_job(services.db, job_id, caller.tenant_id)
    services.clearing.clear(job_id)
    return Response(status_code=204)


@router.post(
    "/jobs/{job_id}/clone", status_code=201, response_model=SubmittedJob,
    responses=problems(404, 409, body=True),
    openapi_extra=request_body(CloneRequest, {"overrides": {"hyperparameters": {"lr": 0.0003}}}),
)  # fmt: skip
def clone(
    job_id: JobId,
    wanted: Annotated[CloneRequest, Depends(body_of(CloneRequest))],
    services: ServicesDep,
    once: OnceDep,
) -> Response:
    """Queue a new job from the beginning: a job's spec with some parts replaced."""

    def respond() -> Reply:
        source = job_store.get_job(services.db, job_id)
        spec, warnings = overridden(source, wanted.overrides, services.settings, services.db)
        services.store_quota.expect_room(source.tenant_id)
        made = job_store.create_job(
            services.db, spec, tenant_id=source.tenant_id, idempotency_key=once.key, parent=source,
            max_queued=services.settings.max_queued_jobs,
        )  # fmt: skip
        if made.is_new:
            services.doorbell.ring(made.job.device_class)
        return submission_reply(services, made, spec, warnings)

    return once(respond)
