"""API keys of the caller's own tenant: making, listing and revoking them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.answers import Answer, Page
from api.body import body_of
from api.dependencies import AfterKey, CallerDep, DatabaseDep, Limit
from api.idempotency import OnceDep, Reply
from api.ids import KeyId
from api.openapi import problems, request_body
from api.pages import page
from models import key_store
from models.key_spec import NewKey, Scope
from models.key_store import KeyRow

router = APIRouter(tags=["keys"])


class KeyBody(Answer):
    """A key, without its secret."""

    object: Literal["key"] = "key"
    id: str
    name: str
    tenant_id: str
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute; null for one that was never used.")
    revoked_at: datetime | None


class MadeKey(KeyBody):
    """The answer that has the key itself."""

    key: str | None = Field(
        description="To be sent as `Authorization: Bearer`. Shown once: null in a replayed answer."
    )


@router.post(
    "/keys", status_code=201, response_model=MadeKey, responses=problems(409, body=True),
    openapi_extra=request_body(NewKey, {"name": "ci", "scopes": ["read", "write"]}),
)  # fmt: skip
def create_key(
    new: Annotated[NewKey, Depends(body_of(NewKey))], db: DatabaseDep, caller: CallerDep, once: OnceDep
) -> Response:
    """Make a key for the caller's tenant; the answer is the only one that ever has it."""

    def respond() -> Reply:
        made = key_store.create_key(db, new, caller.tenant_id)
        body = MadeKey(**dict(_body(made.key)), key=made.token.text)
        headers = {"Cache-Control": "no-store"}
        return Reply(201, body, headers, kept=body.model_copy(update={"key": None}))

    return once(respond)


@router.get("/keys", responses=problems())
def list_keys(db: DatabaseDep, caller: CallerDep, after: AfterKey = None, limit: Limit = 20) -> Page[KeyBody]:
    """The tenant's keys, the newest first; those that were revoked stay in the list."""
    rows = key_store.list_keys(db, tenant_id=caller.tenant_id, after=after, limit=limit + 1)
    return page(rows, limit, "id", _body)


@router.delete("/keys/{key_id}", status_code=204, response_class=Response, responses=problems(404))
def revoke_key(key_id: KeyId, db: DatabaseDep, caller: CallerDep) -> Response:
    """Let a key open nothing any more, in every API process within a few seconds."""
    key_store.revoke_key(db, key_id, tenant_id=caller.tenant_id)
    return Response(status_code=204)


def _body(row: KeyRow) -> KeyBody:
    return KeyBody(
        id=row.id, name=row.name, tenant_id=row.tenant_id, scopes=list(Scope(row.scope).included),
        created_at=row.created_at, last_used_at=row.last_used_at, revoked_at=row.revoked_at,
    )  # fmt: skip
