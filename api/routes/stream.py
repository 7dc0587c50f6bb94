"""What happens to a job, as it happens."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from api.dependencies import IN_DIGITS, MAX_INTEGER, JobId, Services, ServicesDep
from api.job_body import job_body
from api.openapi import problems
from api.stream_frames import as_it_stands, frames
from api.streams import PAGE, JobStream, Opening
from models import job_store

router = APIRouter(tags=["history"])

_EXAMPLE = """retry: 1712

event: metric
data: {"epoch":2,"step":24,"attempt":1,"train_loss":0.3632,"train_accuracy":0.86,"val_loss":0.3349,\
"val_accuracy":0.8565,"learning_rate":0.001,"images_per_second":98.2,"duration_seconds":12.1,\
"recorded_at":"2026-01-01T12:00:24.311942Z","granularity":"epoch"}
id: 23

event: checkpoint
data: {"id":"ckpt_0197c1","epoch":2,"step":24,"attempt":1,"size_bytes":9216512,"sha256":"5c9d…",\
"path":"jobs/job_0197c0/checkpoints/epoch-0002.step-000024.attempt-1.ckpt_0197c1.pth",\
"status":"committed","val_loss":0.3349,"created_at":"2026-01-01T12:00:24.309120Z"}
id: 24

: ping

event: status
data: {"status":"succeeded","final":true,"attempt":1,"recoveries":0,"cancel_requested":false,\
"pause_requested":false,"error":null,"weights_sha256":"c905…","recorded_at":"2026-01-01T12:00:49Z","job":null}
id: 51

"""
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["metric", "status", "attempt", "checkpoint", "event"]},
        "data": {
            "type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "object"},
        },
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "retry": {"type": "integer"},
    },
}  # fmt: skip
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events: `metric`, `status`, `attempt`, `checkpoint` and `event`. "
        "They end after a `status` whose `final` is true.",
        "content": {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE}},
    },
    204: {"description": "The job is finished, and the client has everything: no need to come again."},
}


@router.get("/jobs/{job_id}/stream", response_class=StreamingResponse, responses=_STREAMS | problems(404))
def stream(
    job_id: JobId,
    services: ServicesDep,
    request: Request,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            le=MAX_INTEGER,
            examples=[22],
            description="The `id` of the last event that the client has; what came after it follows.",
        ),
        IN_DIGITS,
    ] = None,
    after: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_INTEGER,
            examples=[0],
            description="The same for a first request: 0 for the whole history. The header counts more.",
        ),
        IN_DIGITS,
    ] = None,
) -> Response:
    """Everything that happens to a job, each time once and in one order, until the job is finished.

    Without a position it begins with a `status` that holds the job as it stands.
    """  # fmt: skip
    opening = _opening(services, job_id, after if last_event_id is None else last_event_id)
    if opening is None:
        return Response(status_code=204)
    return JobStream(services.streams, job_id, opening, getattr(request.state, "abort", _nothing))


def _opening(services: Services, job_id: str, after: int | None) -> Opening | None:
    """What a stream begins with; None for a client that has everything of a finished job. Raises NotFound."""
    if after is not None:
        news = job_store.stream_news(services.db, {job_id: after}, limit=PAGE).get(job_id)
        # A number that the job never gave is of no use: the database was restored, or the job is older
        # than streams and has told nothing since.
        if news is not None and 0 < news.last >= after:
            if news.is_finished and after == news.last:
                return None
            reached = news.lines[-1].sequence if news.lines else after
            is_over = news.is_finished and reached == news.last
            return Opening(frames(news.lines), reached, news.last, is_over)
    row = job_store.get_job(services.db, job_id)
    body = job_body(services.db, services.settings, row)
    written = as_it_stands(row, body, datetime.now(UTC))
    return Opening(written, row.stream_count, row.stream_count, body.finished_at is not None)


def _nothing() -> None:
    """Where no connection is to be broken: in tests without one."""
