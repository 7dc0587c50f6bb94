"""Answers that are kept for requests that come again."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    Integer,
    String,
    Table,
)

from models.columns import Id, Instant, Json, metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Id, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("claimed_at", Float, nullable=False),  # unix seconds
    Column("status_code", Integer),
    Column("body", Json),
    Column("headers", Json),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("(status_code IS NULL) = (body IS NULL)", name="answered_whole"),
)
