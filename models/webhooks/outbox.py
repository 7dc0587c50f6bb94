"""Messages are rows, written in the transaction of the event that they tell of."""

import json
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, literal_column, select

from models.identifiers import new_id
from models.job_state import EventType
from models.tables import jobs, webhook_deliveries, webhooks
from models.webhooks.messages import TOPIC_OF

#: To be returned by a statement that writes a job's row: whether there may be somebody to tell. Most tenants
#: have no webhook, and a look for one by a statement of its own would be the dearest part of many events.
IS_WANTED = (
    select(webhooks.c.id)
    # By name: in what an INSERT returns, SQLAlchemy would take the table for another one of that name.
    .where(webhooks.c.tenant_id == literal_column("jobs.tenant_id"), webhooks.c.disabled_reason.is_(None))
    .exists()
    .label("is_told")
)


def enqueue(tx: Connection, job_id: str, kind: EventType, sequence: int, message: str) -> None:
    """A message for each webhook of the job's tenant that asked for such events.

    The event's number in the job's trail is ``sequence``. The caller has written the job's row already.
    """
    topic = TOPIC_OF.get(kind)
    if topic is None:
        return
    hooks = tx.execute(
        select(webhooks.c.id, webhooks.c.topics, *_SHOWN)
        .join(jobs, jobs.c.tenant_id == webhooks.c.tenant_id)
        .where(jobs.c.id == job_id, webhooks.c.disabled_reason.is_(None))
    ).all()
    told = [hook for hook in hooks if topic in hook.topics]
    if not told:
        return
    job = told[0]
    body = json.dumps(
        {
            "type": str(topic),
            "timestamp": datetime.now(UTC).isoformat(),
            "data": {
                "job_id": job_id,
                "name": job.name,
                "metadata": job.metadata,
                "status": job.status,
                "attempt": job.attempt,
                "message": message,
                "sequence": sequence,
                "weights_sha256": job.weights_sha256,
                "error": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
            },
        }
    )
    tx.execute(
        insert(webhook_deliveries),
        [
            {
                "id": new_id("msg"), "webhook_id": hook.id, "job_id": job_id, "topic": str(topic),
                "body": body, "status": "pending", "due_at": 0.0, "created_at": datetime.now(UTC),
            }
            for hook in told
        ],
    )  # fmt: skip


_SHOWN = (
    jobs.c.name,
    jobs.c.metadata,
    jobs.c.status,
    jobs.c.attempt,
    jobs.c.weights_sha256,
    jobs.c.error_code,
    jobs.c.error_message,
)
