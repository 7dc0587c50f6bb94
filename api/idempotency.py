"""One answer for one Idempotency-Key: kept when the request succeeded, forgotten when it failed.

A failure changed nothing, so the key may carry a corrected request, or the same one a little later.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from api.dependencies import CallerDep, DatabaseDep
from models import job_store
from models.database import Database
from models.errors import PerdureError

REPLAYED = "Idempotent-Replayed"
_log = structlog.get_logger()

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any unique text; the same request under the same key has its effect once.",
    ),
]


@dataclass(frozen=True)
class Reply:
    """What a successful POST answers, in a form that can be kept."""

    status_code: int
    body: BaseModel
    headers: dict[str, str] = field(default_factory=dict)
    kept: BaseModel | None = None  #: in place of a body with something that must not be stored

    def response(self) -> Response:
        """As it goes out."""
        content = self.body.model_dump_json()
        return Response(content, self.status_code, headers=self.headers, media_type="application/json")


class Once:
    """Answers the request at hand, or replays the answer that its key had before."""

    def __init__(self, request: Request, db: Database, tenant_id: str, key: str | None) -> None:
        self._request, self._db, self._tenant_id = request, db, tenant_id
        self.key = key

    def __call__(self, respond: Callable[[], Reply]) -> Response:
        """Raises IdempotencyMismatch, IdempotencyInFlight, and whatever ``respond`` raises."""
        if self.key is None:
            return respond().response()
        replay = job_store.begin_request(self._db, self._tenant_id, self.key, self._fingerprint())
        if replay is not None:
            headers = {**replay.headers, REPLAYED: "true"}
            return JSONResponse(replay.body, replay.status_code, headers=headers)
        try:
            reply = respond()
        except BaseException:
            self._quietly("forget", lambda key: job_store.forget_request(self._db, self._tenant_id, key))
            raise
        body = (reply.kept or reply.body).model_dump(mode="json")
        # The work is done: whether or not the answer can be kept, it must be given.
        self._quietly(
            "complete",
            lambda key: job_store.complete_request(
                self._db, self._tenant_id, key, reply.status_code, body, reply.headers
            ),
        )
        return reply.response()

    def _quietly(self, what: str, act: Callable[[str], None]) -> None:
        try:
            act(self.key or "")
        except PerdureError as error:
            _log.warning("idempotency.not_recorded", what=what, code=error.code)

    def _fingerprint(self) -> str:
        url = self._request.url
        body = json.dumps(getattr(self._request.state, "json", None), sort_keys=True)
        path = url.path.removeprefix("/v1")
        return hashlib.sha256(f"{self._request.method} {path}?{url.query}\n{body}".encode()).hexdigest()


async def _once(
    request: Request, db: DatabaseDep, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> Once:
    return Once(request, db, caller.tenant_id, idempotency_key)


OnceDep = Annotated[Once, Depends(_once)]
