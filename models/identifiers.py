"""Ids that sort by the time they were made."""

import uuid_utils


def new_id(kind: str) -> str:
    """``job_…``, ``ckpt_…``: a UUIDv7 without dashes after the kind."""
    return f"{kind}_{uuid_utils.uuid7().hex}"
