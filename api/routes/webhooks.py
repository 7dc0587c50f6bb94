"""Webhooks: who is told what happens to jobs, and what became of each message."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.answers import DeliveryBody, NewWebhook, Page, WebhookBody
from api.body import NoBody, body_of
from api.dependencies import AfterText, CallerDep, Limit, ServicesDep
from api.idempotency import OnceDep, Reply
from api.ids import DeliveryId, WebhookId
from api.openapi import problems, request_body
from api.pages import page
from models.job_spec import Text
from models.webhooks import store
from models.webhooks.addresses import expect_callable
from models.webhooks.messages import Topic

router = APIRouter(tags=["webhooks"])

Nothing = Annotated[NoBody, Depends(body_of(NoBody))]


class WebhookRequest(BaseModel):
    """Who is to be told, and of what."""

    # The body is JSON already: topics come as their names.
    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2048, examples=["https://example.com/perdure"])
    events: list[Topic] = Field(
        default=[Topic.SUCCEEDED, Topic.FAILED, Topic.CANCELLED], min_length=1, max_length=len(Topic)
    )
    description: Text = Field(default="", max_length=200)


@router.post(
    "/webhooks", status_code=201, response_model=NewWebhook, responses=problems(body=True),
    openapi_extra=request_body(
        WebhookRequest, {"url": "https://example.com/perdure", "events": ["job.succeeded", "job.failed"]}
    ),
)  # fmt: skip
def create(
    wanted: Annotated[WebhookRequest, Depends(body_of(WebhookRequest))],
    services: ServicesDep,
    caller: CallerDep,
    once: OnceDep,
) -> Response:
    """Tell a URL what happens to jobs from now on."""

    def respond() -> Reply:
        expect_callable(wanted.url, services.settings.webhook_allow_hosts)
        topics = list(dict.fromkeys(wanted.events))
        row = store.create_webhook(services.db, caller.tenant_id, wanted.url, topics, wanted.description)
        return Reply(201, NewWebhook.model_validate(row), {"Location": f"/webhooks/{row.id}"})

    return once(respond)


@router.get("/webhooks", responses=problems())
def webhooks(
    services: ServicesDep, caller: CallerDep, after: AfterText = None, limit: Limit = 20
) -> Page[WebhookBody]:
    """Webhooks, oldest first; without their secrets."""
    rows = store.list_webhooks(services.db, caller.tenant_id, after=after, limit=limit + 1)
    return page(rows, limit, "id", WebhookBody.model_validate)


@router.get("/webhooks/{webhook_id}", responses=problems(404))
def show(webhook_id: WebhookId, services: ServicesDep, caller: CallerDep) -> WebhookBody:
    """One webhook, without its secret."""
    return WebhookBody.model_validate(store.get_webhook(services.db, caller.tenant_id, webhook_id))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=problems(404))
def remove(webhook_id: WebhookId, services: ServicesDep, caller: CallerDep) -> None:
    """Tell it nothing any more; its messages go with it."""
    store.delete_webhook(services.db, caller.tenant_id, webhook_id)


@router.get("/webhooks/{webhook_id}/deliveries", responses=problems(404))
def deliveries(
    webhook_id: WebhookId,
    services: ServicesDep,
    caller: CallerDep,
    after: AfterText = None,
    limit: Limit = 20,
) -> Page[DeliveryBody]:
    """Its messages, newest first; settled ones are kept for 30 days."""
    rows = store.list_deliveries(services.db, caller.tenant_id, webhook_id, after=after, limit=limit + 1)
    return page(rows, limit, "id", _delivery)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202,
    response_model=DeliveryBody, responses=problems(404, body=True), openapi_extra=request_body(NoBody),
)  # fmt: skip
def redeliver(
    webhook_id: WebhookId,
    delivery_id: DeliveryId,
    _: Nothing,
    services: ServicesDep,
    caller: CallerDep,
    once: OnceDep,
) -> Response:
    """Send a message again, with its id, and tell the webhook what comes if it was disabled."""
    return once(
        lambda: Reply(202, _delivery(store.redeliver(services.db, caller.tenant_id, webhook_id, delivery_id)))
    )


def _delivery(row: store.WebhookRow) -> DeliveryBody:
    due_at = datetime.fromtimestamp(row.due_at, UTC) if row.due_at else row.created_at
    shown = {**row._mapping, "next_attempt_at": due_at if row.status == "pending" else None}
    return DeliveryBody.model_validate(shown)
