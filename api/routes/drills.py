"""Drills: breaking a running job on purpose, and what became of it."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.answers import DrillBody, Page
from api.body import body_of
from api.dependencies import AfterText, JobId, Limit, Services, ServicesDep
from api.idempotency import OnceDep, Reply
from api.openapi import problems, request_body
from api.pages import page
from models import job_store
from models.errors import DrillsDisabled, DrillUnsupported
from models.job_state import Fault
from models.storage import LocalStorage

router = APIRouter(tags=["drills"])


class DrillRequest(BaseModel):
    """What to break."""

    # The body is JSON already: a fault comes as its name.
    model_config = ConfigDict(extra="forbid")

    fault: Fault = Field(examples=["kill_trainer"])


@router.post(
    "/jobs/{job_id}/drill", status_code=202, response_model=DrillBody,
    responses=problems(403, 404, 409, body=True),
    openapi_extra=request_body(DrillRequest, {"fault": "kill_trainer"}),
)  # fmt: skip
def drill(
    job_id: JobId,
    wanted: Annotated[DrillRequest, Depends(body_of(DrillRequest))],
    services: ServicesDep,
    once: OnceDep,
) -> Response:
    """Let the worker that runs the job break it for real, with its next renewal of the lease."""

    def respond() -> Reply:
        _expect_possible(services, wanted.fault)
        asked = job_store.request_drill(services.db, job_id, wanted.fault)
        return Reply(202, DrillBody.model_validate(asked))

    return once(respond)


@router.get("/jobs/{job_id}/drills", responses=problems(404))
def drills(
    job_id: JobId, services: ServicesDep, after: AfterText = None, limit: Limit = 20
) -> Page[DrillBody]:
    """The job's drills, oldest first, each with what it cost."""
    rows = job_store.job_drills(services.db, job_id, after=after, limit=limit + 1)
    return page(rows, limit, "id", DrillBody.model_validate)


def _expect_possible(services: Services, fault: Fault) -> None:
    if not services.settings.drills:
        raise DrillsDisabled
    if fault == Fault.CORRUPT_CHECKPOINT and not isinstance(services.storage, LocalStorage):
        raise DrillUnsupported(
            "Checkpoints are damaged only where they are files; in this store objects are never changed."
            " Choose another fault."
        )
