"""Every statement about webhooks. Each public function is one transaction."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, insert, select, update

from models.database import Database
from models.errors import NotFound
from models.identifiers import new_id
from models.tables import webhook_deliveries as deliveries
from models.tables import webhooks
from models.webhooks.messages import Topic, new_secret
from models.webhooks.sending import Outcome

WebhookRow = Row[Any]  #: of a webhook, or of a delivery

#: Pauses between tries, as Standard Webhooks suggests: three days in all.
RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Who sends has so long to say how it went; then somebody else sends the message again.
LEASE_SECONDS = 60.0
KEEP_DAYS = 30


@dataclass(frozen=True)
class Delivery:
    """A message that is ours to send now."""

    id: str
    webhook_id: str
    topic: str
    body: str
    attempts: int  #: this one included; who records an outcome must still hold it
    url: str
    secret: str


def create_webhook(
    db: Database, tenant_id: str, url: str, topics: list[Topic], description: str
) -> WebhookRow:
    """The row has the secret."""
    webhook_id = new_id("wh")
    with db.writing() as tx:
        return tx.execute(
            insert(webhooks)
            .values(
                id=webhook_id,
                tenant_id=tenant_id,
                url=url,
                topics=sorted(map(str, topics)),
                description=description,
                secret=new_secret(),
                created_at=db.now(),
            )
            .returning(webhooks)
        ).one()


def list_webhooks(db: Database, tenant_id: str, *, after: str | None, limit: int) -> list[WebhookRow]:
    """Oldest first."""
    wanted = select(webhooks).where(webhooks.c.tenant_id == tenant_id).order_by(webhooks.c.id).limit(limit)
    if after is not None:
        wanted = wanted.where(webhooks.c.id > after)
    with db.reading() as tx:
        return list(tx.execute(wanted))


def get_webhook(db: Database, tenant_id: str, webhook_id: str) -> WebhookRow:
    """Raises NotFound."""
    with db.reading() as tx:
        row = tx.execute(select(webhooks).where(_is(tenant_id, webhook_id))).one_or_none()
    if row is None:
        raise _unknown(webhook_id)
    return row


def delete_webhook(db: Database, tenant_id: str, webhook_id: str) -> None:
    """With its messages; what is being sent right now may still arrive. Raises NotFound."""
    with db.writing() as tx:
        if tx.execute(delete(webhooks).where(_is(tenant_id, webhook_id))).rowcount == 0:
            raise _unknown(webhook_id)


def list_deliveries(
    db: Database, tenant_id: str, webhook_id: str, *, after: str | None, limit: int
) -> list[WebhookRow]:
    """The newest first. Raises NotFound."""
    wanted = (
        select(deliveries)
        .where(deliveries.c.webhook_id == webhook_id)
        .order_by(deliveries.c.id.desc())
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(deliveries.c.id < after)
    with db.reading() as tx:
        if tx.execute(select(webhooks.c.id).where(_is(tenant_id, webhook_id))).first() is None:
            raise _unknown(webhook_id)
        return list(tx.execute(wanted))


def redeliver(db: Database, tenant_id: str, webhook_id: str, delivery_id: str) -> WebhookRow:
    """Send a message again, with its id and body as they were, and enable its webhook. Raises NotFound."""
    with db.writing() as tx:
        enabled = tx.execute(update(webhooks).where(_is(tenant_id, webhook_id)).values(disabled_reason=None))
        if enabled.rowcount == 0:
            raise _unknown(webhook_id)
        row = tx.execute(
            update(deliveries)
            .where(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
            .values(status="pending", attempts=0, due_at=0.0, delivered_at=None)
            .returning(deliveries)
        ).one_or_none()
        if row is None:
            raise NotFound(f"That webhook has no delivery {delivery_id!r}; its list has those that exist.")
        return row


def claim_delivery(db: Database) -> Delivery | None:
    """One that is due, for LEASE_SECONDS ours alone: one conditional update, as jobs are claimed."""
    due = (
        select(deliveries.c.id)
        .where(deliveries.c.status == "pending", deliveries.c.due_at <= db.unix_now())
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    # Most looks find nothing: on SQLite those should not take the one lock of all writers.
    if db.is_sqlite:
        with db.reading() as tx:
            if tx.execute(due).first() is None:
                return None
    with db.writing() as tx:
        row = tx.execute(
            update(deliveries)
            .where(deliveries.c.id == due.scalar_subquery(), deliveries.c.status == "pending")
            .values(attempts=deliveries.c.attempts + 1, due_at=db.unix_now() + LEASE_SECONDS)
            .returning(deliveries)
        ).one_or_none()
        if row is None:
            return None
        hook = tx.execute(select(webhooks).where(webhooks.c.id == row.webhook_id)).one()
        return Delivery(row.id, row.webhook_id, row.topic, row.body, row.attempts, hook.url, hook.secret)


def record_outcome(db: Database, delivery: Delivery, outcome: Outcome) -> None:
    """Done, due again later, or given up. Nothing if somebody else sent it meanwhile."""
    pauses = RETRY_SECONDS[delivery.attempts - 1 :]
    values: dict[str, Any] = {"last_status_code": outcome.status_code, "last_error": outcome.error}
    if outcome.is_accepted:
        values |= {"status": "delivered", "delivered_at": db.now()}
    elif outcome.is_gone or not pauses:
        values |= {"status": "failed"}
    else:  # in step, all messages to a receiver that is back would arrive at once
        values |= {"due_at": db.unix_now() + pauses[0] * random.uniform(0.9, 1.1)}
    with db.writing() as tx:
        tx.execute(
            update(deliveries)
            .where(
                deliveries.c.id == delivery.id,
                deliveries.c.status == "pending",
                deliveries.c.attempts == delivery.attempts,
            )
            .values(last_attempt_at=db.now(), **values)
        )
        if outcome.is_gone:
            _disable(tx, delivery.webhook_id, "The receiver answered 410 Gone: it wants no more.")


def forget_old(db: Database) -> None:
    """What was settled long ago goes."""
    before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
    with db.writing() as tx:
        tx.execute(
            delete(deliveries).where(deliveries.c.status != "pending", deliveries.c.created_at < before)
        )


def _disable(tx: Any, webhook_id: str, reason: str) -> None:
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(disabled_reason=reason))
    tx.execute(
        update(deliveries)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.status == "pending")
        .values(status="failed", last_error=reason)
    )


def _is(tenant_id: str, webhook_id: str) -> Any:
    return and_(webhooks.c.id == webhook_id, webhooks.c.tenant_id == tenant_id)


def _unknown(webhook_id: str) -> NotFound:
    return NotFound(f"There is no webhook {webhook_id!r}; `GET /webhooks` lists those that exist.")
