"""The root of every answer, and pages of them."""

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from perdure.errors import ForeignAnswerError


class Answer(BaseModel):
    """The root of every model here."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), serialize_by_alias=True, validate_by_name=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _as_a_server_says_it(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(value)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, entry["loc"])) for entry in error.errors())
            raise ForeignAnswerError(
                f"An answer with a wrong {cls.__name__} ({fields or 'all of it'})"
            ) from error


class Page(Answer):
    """One page of a list; ``last_id`` is the ``after`` of the next."""

    data: list[dict[str, Any]]
    has_more: bool = False
    last_id: str | int | None = None
