"""Webhooks, and what each is told."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from models.columns import Id, Instant, Json, metadata, one_of

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False, server_default="default"),
    Column("url", Text, nullable=False),
    Column("topics", Json, nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", String(128), nullable=False),  # as it is: every sending is signed with it
    Column("disabled_reason", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_webhooks_tenant", "tenant_id", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Id, primary_key=True),  # the message's id, by which a receiver knows it again
    Column("webhook_id", Id, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", Id, nullable=False),  # it may be deleted; what was told of it stays
    Column("topic", String(64), nullable=False),
    Column("body", Text, nullable=False),  # the bytes that are sent, each time the same
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),  # unix seconds; while it is sent, when others may take over
    Column("last_attempt_at", Instant),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    Column("delivered_at", Instant),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(one_of("status", ["pending", "delivered", "failed"]), name="status_known"),
    CheckConstraint("(status = 'delivered') = (delivered_at IS NOT NULL)", name="delivered_has_instant"),
    Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
)
Index(
    "ix_webhook_deliveries_due",
    webhook_deliveries.c.due_at,
    webhook_deliveries.c.id,
    sqlite_where=text("status = 'pending'"),
    postgresql_where=text("status = 'pending'"),
)
