"""What is registered as a dataset where nothing is sent: a folder, or one of torchvision's own."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.archives.names import safe_part
from models.builtin_datasets import BuiltinName
from models.errors import ArchiveInvalid
from models.job_spec import Name, RelativePath, exactly_one_of


def _plain_name(name: str) -> str:
    try:
        return safe_part(name)
    except ArchiveInvalid as error:
        raise ValueError(error.message) from error


DatasetName = Annotated[Name, AfterValidator(_plain_name)]


class Registration(BaseModel):
    """A folder that is on the data root already, and stays where it is; or one of torchvision's datasets."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra=exactly_one_of("path", "builtin")
    )

    path: RelativePath | None = Field(
        default=None,
        description="Below the data root: `train/<class>/*` and `val/<class>/*`, or `<class>/*` alone.",
        examples=["flowers4"],
    )
    builtin: BuiltinName | None = Field(
        default=None, description="One of torchvision's own datasets.", examples=["cifar10"]
    )
    name: DatasetName | None = Field(default=None, description="Need not be unique.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.path is None) == (self.builtin is None):
            raise ValueError("say what to register: exactly one of `path` and `builtin`")
        return self
