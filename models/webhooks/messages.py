"""Which events are told, and the signed request that tells of one (https://www.standardwebhooks.com)."""

import base64
import secrets
from datetime import datetime
from enum import StrEnum

from standardwebhooks import Webhook

from models.job_state import EventType

_PREFIX = "whsec_"
_SECRET_BYTES = 32


class Topic(StrEnum):
    """What a webhook can ask to be told."""

    CREATED = "job.created"  #: it was submitted
    STARTED = "job.started"  #: a worker claimed it, for the first time or again
    INTERRUPTED = "job.interrupted"  #: its trainer or its worker is gone, or was asked to stop; it goes on
    PAUSED = "job.paused"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


TOPIC_OF = {
    EventType.CREATED: Topic.CREATED,
    EventType.CLAIMED: Topic.STARTED,
    EventType.RESTARTED: Topic.INTERRUPTED,
    EventType.RELEASED: Topic.INTERRUPTED,
    EventType.EXPIRED: Topic.INTERRUPTED,
    EventType.PAUSED: Topic.PAUSED,
    EventType.SUCCEEDED: Topic.SUCCEEDED,
    EventType.FAILED: Topic.FAILED,
    EventType.CANCELLED: Topic.CANCELLED,
}


def new_secret() -> str:
    """What a receiver verifies signatures with; 256 random bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The headers of one sending, at an instant in UTC: of the sending, not of the event."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }
