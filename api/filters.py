"""What a list is asked for beside its page: pairs of metadata, and instants."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, TypeAdapter, ValidationError

from api.problems import field_error, sentence, validation_failed
from models.job_spec import MAX_METADATA, MetadataName, MetadataValue

_DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_PAIRS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[MetadataName, MetadataValue])

#: FastAPI has no word for ``metadata[key]=value``; OpenAPI calls it a deep object.
METADATA_PARAMETER: Mapping[str, Any] = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "required": False,
    "description": "Only jobs with this metadata: `metadata[team]=vision`. Several must all be there.",
    "schema": _PAIRS.json_schema() | {"maxProperties": MAX_METADATA},
    "example": {"team": "vision"},
}


async def _metadata(request: Request) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        found = _PAIR.fullmatch(name)
        if found is None:
            if name == "metadata" or name.startswith("metadata."):
                raise _refused(name, "Write metadata[key]=value.", "metadata_malformed")
            continue
        if found[1] in pairs:
            raise _refused(name, "This key is there twice.", "duplicate_key")
        pairs[found[1]] = value
    if len(pairs) > MAX_METADATA:
        raise _refused("metadata", f"A job has at most {MAX_METADATA} of them.", "too_long")
    try:
        return _PAIRS.validate_python(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(f"metadata[{first['loc'][0]}]", sentence(first), first["type"]) from None


def _refused(field: str, message: str, code: str) -> Exception:
    return validation_failed([field_error(field, message, code)])


def _written_out(value: object) -> object:
    # pydantic takes numbers for seconds or milliseconds, by their size.
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("Write an instant as in 2026-01-31T00:00:00Z.")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("This is before or after all years.") from None


MetadataFilter = Annotated[dict[str, str], Depends(_metadata)]
CreatedAfter = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    AfterValidator(lambda value: value and _in_utc(value)),
    Query(description="Only jobs that were submitted at this instant or later.",
          examples=["2026-01-31T00:00:00Z"]),
]  # fmt: skip
CreatedBefore = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    AfterValidator(lambda value: value and _in_utc(value)),
    Query(description="Only jobs that were submitted before this instant."),
]
