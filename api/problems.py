"""Every error as ``application/problem+json``, and the one map from errors to HTTP status codes."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from models import errors

MEDIA_TYPE = "application/problem+json"
#: A hostile body can be wrong in very many places; so many are named.
MAX_ERRORS = 50
MAX_FIELD_CHARACTERS = 200

#: By the nearest class of an error's ancestry. What is not listed is our fault: 500, and nothing is told.
STATUS_OF: dict[type[errors.PerdureError], int] = {
    errors.NotFound: 404,
    errors.WrongState: 409,
    errors.SpecInvalid: 422,
    errors.IdempotencyMismatch: 422,
    errors.IdempotencyInFlight: 409,
    errors.QuotaExceeded: 429,
    errors.DatabaseUnavailable: 503,
    errors.DrillsDisabled: 403,
    errors.DrillUnsupported: 409,
    errors.ContentGone: 410,
    errors.CheckpointDamaged: 410,
    errors.CheckpointFormatUnknown: 503,
    errors.DownloadFailed: 503,
    errors.DownloadNotReady: 503,
    errors.TorchMissing: 503,
    errors.OnnxMissing: 501,
    errors.OnnxUnsupported: 422,
    errors.ImageInvalid: 422,
    errors.PredictionFailed: 503,
    errors.PredictionNotReady: 503,
    errors.DatasetInvalid: 422,
    errors.DatasetNotReady: 409,
    errors.DatasetInUse: 409,
    errors.ArchiveInvalid: 422,
    errors.UploadTooLarge: 413,
    errors.DatasetUnavailable: 422,
    errors.WeightsUnavailable: 422,
    errors.WeightsInvalid: 422,
    errors.StorageFailed: 503,
    errors.WebhookUrlInvalid: 422,
}
RETRY_AFTER_SECONDS: dict[type[errors.PerdureError], int] = {
    errors.DatabaseUnavailable: 3,
    errors.DatasetNotReady: 2,
    errors.DownloadFailed: 3,
    errors.DownloadNotReady: 3,
    errors.IdempotencyInFlight: 1,
    errors.PredictionFailed: 3,
    errors.PredictionNotReady: 3,
    errors.QuotaExceeded: 30,
    errors.StorageFailed: 3,
}
_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed"}
_log = structlog.get_logger()


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Dotted path into the body, or the name of a parameter or header.")
    message: str
    code: str


class Problem(BaseModel):
    """An error answer (RFC 9457)."""

    type: str = Field(examples=["urn:perdure:problem:wrong_state"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; made for programs.", examples=["wrong_state"])
    request_id: str
    errors: list[FieldError]


class Refused(Exception):
    """A request that ends here: status, stable code, and a sentence that says what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers = errors, headers


def problem_response(scope: Scope, refused: Refused) -> Response:
    """The answer for ``refused``."""
    problem = Problem(
        type=f"urn:perdure:problem:{refused.code}",
        title=refused.code.replace("_", " ").capitalize(),
        status=refused.status,
        detail=refused.detail,
        code=refused.code,
        request_id=scope.get("state", {}).get("request_id", ""),
        errors=list(refused.errors[:MAX_ERRORS]),
    )
    return JSONResponse(
        problem.model_dump(), refused.status, headers=dict(refused.headers or {}), media_type=MEDIA_TYPE
    )


def internal_error() -> Refused:
    """Of an unexpected error nothing leaves but the request's id, which the log has too."""
    return Refused(500, "internal_error", "Something went wrong here; the server's log has the details.")


def refused_for(error: errors.PerdureError) -> Refused:
    """A domain error as HTTP."""
    known = next((kind for kind in type(error).__mro__ if kind in STATUS_OF), None)
    if known is None:
        _log.error("error.unexpected", code=error.code, exc_info=error)
        return internal_error()
    status = STATUS_OF[known]
    wait = RETRY_AFTER_SECONDS.get(known)
    named = [field_error(error.field, error.message, error.code)] if error.field else []
    if status == 503:
        cause = error.reason if isinstance(error, errors.DatabaseUnavailable) else error.__cause__ or error
        _log.warning("request.unavailable", code=error.code, cause=str(cause)[:500])
    return Refused(
        status, error.code, error.message, errors=named, headers={"Retry-After": str(wait)} if wait else None
    )


def field_error(field: str, message: str, code: str) -> FieldError:
    """Bounded and printable: names of fields may come from the request and go to a terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in field)
    return FieldError(field=shown[:MAX_FIELD_CHARACTERS], message=message, code=code)


def validation_failed(found: Sequence[FieldError]) -> Refused:
    """422 that names every field at fault."""
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{first.field}: " if first.field else ""
    return Refused(422, "validation_failed", f"{where}{first.message}{more}", errors=found)


def sentence(error: Mapping[str, Any]) -> str:
    """pydantic's message without its prefix for errors of our own validators."""
    return str(error["msg"]).removeprefix("Value error, ")


def install(app: FastAPI) -> None:
    """Let ``app`` answer every error as a problem."""

    @app.exception_handler(errors.PerdureError)
    async def _domain(request: Request, error: errors.PerdureError) -> Response:
        return problem_response(request.scope, refused_for(error))

    @app.exception_handler(Refused)
    async def _refused(request: Request, error: Refused) -> Response:
        return problem_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> Response:
        found = [
            field_error(".".join(str(part) for part in entry["loc"][1:]), sentence(entry), entry["type"])
            for entry in error.errors()
        ]
        return problem_response(request.scope, validation_failed(found))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = _CODE_OF_STATUS.get(status, status.phrase.lower().replace(" ", "_"))
        detail = {
            404: "There is nothing at this address; GET /openapi.json lists what there is.",
            405: "This address does not have that method; the Allow header names those that it has.",
        }.get(status, status.description or status.phrase)
        headers = {"Allow": _allowed(app, request.scope)} if status == 405 else error.headers
        return problem_response(request.scope, Refused(status, code, detail, headers=headers))


def _allowed(app: FastAPI, scope: Scope) -> str:
    """The methods of this path. Starlette names those of the first route alone, and each has one of ours."""
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    return ", ".join(found if "GET" not in found else ["GET", "HEAD", *found[1:]])
