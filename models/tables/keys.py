"""The table of API keys: their hashes, never their secrets."""

from sqlalchemy import CheckConstraint, Column, Index, String, Table

from models.columns import Id, Instant, metadata, one_of
from models.key_spec import Scope

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant_id", Id, nullable=False),
    Column("name", String(200), nullable=False),
    Column("scope", String(16), nullable=False),  # the highest one; it includes those below it
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant),
    # A revoked key keeps its row: where there was ever a key, no server is open to everybody again
    Column("revoked_at", Instant),
    CheckConstraint(one_of("scope", Scope), name="scope_known"),
    Index("ix_api_keys_listed", "tenant_id", "id"),
)
