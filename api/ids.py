"""Ids in requests: what they look like, judged before any database is asked.

Not every database takes any garbage as a value to compare with.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from models.errors import NotFound

#: As long as the columns that hold them.
_MAX_CHARACTERS = 64


@dataclass(frozen=True)
class Judged:
    """For a parameter's type: which ids it takes, in its OpenAPI document too."""

    pattern: str
    message: str
    is_address: bool = False  #: an id in a path that cannot be is 404; one in a query, 422

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._judge, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}

    def _judge(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise NotFound(self.message) if self.is_address else ValueError(self.message)
        return value


def one(prefix: str) -> str:
    """The pattern of an id."""
    return f"{prefix}_[0-9A-Za-z-]{{1,{_MAX_CHARACTERS - len(prefix) - 1}}}"


def _in_path(prefix: str, kind: str, where: str) -> Judged:
    return Judged(one(prefix), f"There is no {kind} with that id; {where} those that exist.", is_address=True)


def _in_query(prefix: str, kind: str) -> Judged:
    return Judged(one(prefix), f"This is not the id of a {kind}.")


_A_CHOICE = f"(last|best|{one('ckpt')})"

#: Well-formed only; whose it is comes later.
AnyJob = Annotated[str, _in_path("job", "job", "`GET /jobs` lists")]
CheckpointId = Annotated[
    str,
    Judged(
        _A_CHOICE, "There is no checkpoint with that id; the job's list of checkpoints has those that exist.",
        is_address=True,
    ),
]  # fmt: skip
DatasetId = Annotated[str, _in_path("ds", "dataset", "`GET /datasets` lists")]
KeyId = Annotated[str, _in_path("key", "key", "`GET /keys` lists")]
WorkerId = Annotated[str, _in_path("wrk", "worker", "`GET /workers` lists")]
WebhookId = Annotated[str, _in_path("wh", "webhook", "`GET /webhooks` lists")]
DeliveryId = Annotated[str, _in_path("msg", "delivery", "the webhook's list has")]

JobIdValue = Annotated[str, _in_query("job", "job")]
DatasetIdValue = Annotated[str, _in_query("ds", "dataset")]
KeyIdValue = Annotated[str, _in_query("key", "key")]
CheckpointIdValue = Annotated[str, _in_query("ckpt", "checkpoint")]
ChoiceValue = Annotated[
    str, Judged(_A_CHOICE, "This is neither `last`, nor `best`, nor the id of a checkpoint.")
]
