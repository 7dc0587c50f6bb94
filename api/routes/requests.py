"""Steering a job: cancel, pause, resume, retry, extend."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.answers import JobBody
from api.body import NoBody, body_of
from api.dependencies import JobId, Services, ServicesDep
from api.idempotency import OnceDep, Reply
from api.job_body import job_body
from api.openapi import problems, request_body
from models import job_store
from models.job_store.requests import Answer, Effect

router = APIRouter(tags=["jobs"])

Nothing = Annotated[NoBody, Depends(body_of(NoBody))]


class Extension(BaseModel):
    """More epochs for a job that succeeded."""

    model_config = ConfigDict(extra="forbid", strict=True)

    additional_epochs: int = Field(ge=1, le=10_000, examples=[4])
    scheduler: Literal["constant", "cosine"] | None = Field(
        default=None, description="Of the new epochs; null takes that of the epochs before."
    )


def _stop(services: Services, once: OnceDep, act: Callable[[], Answer]) -> Response:
    """200 where the job is at rest already, 202 where its worker will see to it."""

    def respond() -> Reply:
        answer = act()
        body = job_body(services.db, services.settings, answer.job)
        return Reply(200 if answer.effect is Effect.DONE else 202, body)

    return once(respond)


def _go_on(services: Services, once: OnceDep, act: Callable[[], Answer]) -> Response:
    """202: the job waits for a worker again."""

    def respond() -> Reply:
        answer = act()
        services.doorbell.ring(answer.job.device_class)
        return Reply(202, job_body(services.db, services.settings, answer.job))

    return once(respond)


def _max_queued(services: Services) -> int | None:
    return services.settings.max_queued_jobs


_NO_BODY = request_body(NoBody)
_STOPS: dict[int | str, dict[str, object]] = {
    200: {"model": JobBody, "description": "The job is where it was asked to go."},
    202: {"model": JobBody, "description": "A running job will be at its next step."},
    **problems(404, 409, body=True),
}
_GOES_ON = problems(404, 409, body=True)


@router.post("/jobs/{job_id}/cancel", response_model=JobBody, responses=_STOPS, openapi_extra=_NO_BODY)
def cancel(job_id: JobId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Stop a job for good."""
    return _stop(services, once, lambda: job_store.cancel(services.db, job_id))


@router.post("/jobs/{job_id}/pause", response_model=JobBody, responses=_STOPS, openapi_extra=_NO_BODY)
def pause(job_id: JobId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Stop a job at a checkpoint until it is resumed."""
    return _stop(services, once, lambda: job_store.pause(services.db, job_id))


@router.post(
    "/jobs/{job_id}/resume", status_code=202, response_model=JobBody, responses=_GOES_ON,
    openapi_extra=_NO_BODY,
)  # fmt: skip
def resume(job_id: JobId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Queue a paused job again; takes back a pause that was not carried out yet."""
    return _go_on(services, once, lambda: job_store.resume(services.db, job_id, _max_queued(services)))


@router.post(
    "/jobs/{job_id}/retry", status_code=202, response_model=JobBody, responses=_GOES_ON,
    openapi_extra=_NO_BODY,
)  # fmt: skip
def retry(job_id: JobId, _: Nothing, services: ServicesDep, once: OnceDep) -> Response:
    """Queue a failed or cancelled job again: from its last checkpoint, with its budgets refilled."""
    return _go_on(services, once, lambda: job_store.retry(services.db, job_id, _max_queued(services)))


@router.post(
    "/jobs/{job_id}/extend", status_code=202, response_model=JobBody, responses=_GOES_ON,
    openapi_extra=request_body(Extension, {"additional_epochs": 4}),
)  # fmt: skip
def extend(
    job_id: JobId,
    extension: Annotated[Extension, Depends(body_of(Extension))],
    services: ServicesDep,
    once: OnceDep,
) -> Response:
    """Queue a succeeded job again for more epochs, whose schedule starts anew."""
    return _go_on(
        services,
        once,
        lambda: job_store.extend(
            services.db, job_id, extension.additional_epochs, extension.scheduler, _max_queued(services)
        ),
    )
