"""What a user asks for: the spec of a job, its defaults and its limits."""

import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from models.builtin_datasets import BuiltinName

#: Decoded images of one batch in float32, with activations a multiple of that: beyond it no device fits.
MAX_BATCH_BYTES = 16 * 2**30
#: Pairs that a job may carry.
MAX_METADATA = 16


def _printable(text: str) -> str:
    # C1 controls too, one of which begins an escape sequence in some terminals, and both line separators.
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise ValueError("control characters are not allowed")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("lone surrogates are not allowed") from error
    return text


def said_as(pattern: str) -> Any:
    """A rule that a validator keeps, for readers of the JSON schema, who get no sentence of ours."""
    return Field(json_schema_extra={"pattern": pattern})


#: Escapes as both Python and ECMAScript read them.
PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
Text = Annotated[str, AfterValidator(_printable), said_as(PRINTABLE)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
RelativePath = Annotated[Text, StringConstraints(min_length=1, max_length=1000)]
DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9A-Za-z-]{1,60}$")]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Priority = Annotated[int, Field(ge=-100, le=100)]
MetadataName = Annotated[Text, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[Text, Field(max_length=512)]


class Part(BaseModel):
    """A part of a spec: unknown fields, strings for numbers, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def exactly_one_of(*names: str) -> dict[str, Any]:
    """For JSON Schema: one of these fields, which are texts, and null for the others."""
    nulls = {name: {"type": "null"} for name in names}
    one_each = [{"required": [name], "properties": nulls | {name: {"type": "string"}}} for name in names]
    return {"oneOf": one_each}


class DatasetSpec(Part):
    """Where the images are: exactly one of a registered dataset, a folder, and one of torchvision's own."""

    model_config = ConfigDict(json_schema_extra=exactly_one_of("id", "path", "builtin"))

    id: DatasetId | None = Field(default=None, description="Of a dataset that is ready.")
    path: RelativePath | None = Field(
        default=None,
        description="Below the data root: `train/<class>/*` and `val/<class>/*`, or `<class>/*` alone.",
        examples=["flowers4"],
    )

    builtin: BuiltinName | None = Field(
        default=None, description="One of torchvision's own datasets.", examples=["cifar10"]
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.id, self.path, self.builtin].count(None) != 2:
            raise ValueError("say where the images are: exactly one of `id`, `path` and `builtin`")
        return self

    @model_serializer(mode="wrap")
    def _what_was_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Readers find the one that counts, and specs of before the others stay as they were."""
        return {name: value for name, value in serialize(self).items() if value is not None}


class WeightsFile(Part):
    """A `.pth` or `.safetensors` file below the data root."""

    file: RelativePath


class ModelSpec(Part):
    arch: Name = Field(default="efficientnet_b1", description="A torchvision classification architecture.")
    weights: WeightsFile | Name | None = Field(
        default="DEFAULT", description="A torchvision weights name, a file, or null for a random start."
    )
    freeze: Literal["backbone", "none"] | Annotated[int, Field(ge=0, le=1000)] = Field(
        default="backbone", description="`backbone`, `none`, or the number of leading stages to freeze."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3


class Hyperparameters(Part):
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 4
    batch_size: Annotated[int, Field(ge=1, le=8192)] = 32
    image_size: Annotated[int, Field(ge=16, le=2048)] | None = Field(
        default=None, description="Pixels a side; null takes the architecture's own."
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0.0, le=100.0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    scheduler: Literal["constant", "cosine"] = "constant"
    augment: Literal["none", "flip", "crop", "trivial"] = Field(
        default="none",
        description="`flip`: horizontal flips; `crop`: random resized crops and flips; "
        "`trivial`: TrivialAugment after those.",
    )
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="`auto` is float32 on a CPU and bfloat16 autocast on a GPU that has it."
    )


class Validation(Part):
    split: Fraction = Field(
        default=0.2, description="The share kept for validation where no `val` folder is."
    )


class Resources(Part):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_devices: Annotated[int, Field(ge=1, le=1)] = Field(
        default=1, description="One device a job; more are not supported yet."
    )
    max_runtime_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None


class CheckpointEvery(Part):
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    seconds: Annotated[float, Field(ge=1.0, le=86_400.0)] | None = Field(
        default=None,
        description="Within an epoch; null chooses by what a checkpoint costs and how often workers fail.",
    )
    min_seconds: Annotated[float, Field(ge=1.0, le=86_400.0)] = Field(
        default=2.0, description="Where `seconds` is null: not more often than this."
    )
    max_seconds: Annotated[float, Field(ge=1.0, le=86_400.0)] = Field(
        default=60.0, description="Where `seconds` is null: at most so much work is at risk."
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError("min_seconds must not be larger than max_seconds")
        return self


class FaultTolerance(Part):
    max_failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5, description="Trainer failures without progress before the job fails."
    )
    checkpoint_every: CheckpointEvery = CheckpointEvery()
    keep_last: Annotated[int, Field(ge=1, le=1000)] = 2
    exact_wait_seconds: Annotated[int, Field(ge=0, le=604_800)] = Field(
        default=300, description="How long to wait for a worker of equal numerics before going on inexactly."
    )
    verify_on_resume: bool = False
    on_non_finite: Literal["fail", "rollback"] = Field(
        default="fail",
        description="A loss that is NaN or infinite: fail, or go back to the last epoch's end and on at half "
        "the learning rate.",
    )
    on_out_of_memory: Literal["fail", "micro_batches"] = Field(
        default="fail",
        description="`micro_batches`: compute each batch in twice as many parts; the batch stays the same, "
        "its bits do not.",
    )


class EarlyStopping(Part):
    patience: Annotated[int, Field(ge=1, le=10_000)] = 5
    min_delta: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0


class JobSpec(Part):
    """A spec; only `dataset` is required."""

    name: Name | None = None
    dataset: DatasetSpec
    model: ModelSpec = ModelSpec()
    hyperparameters: Hyperparameters = Hyperparameters()
    validation: Validation = Validation()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    resources: Resources = Resources()
    fault_tolerance: FaultTolerance = FaultTolerance()
    early_stopping: EarlyStopping | None = None
    priority: Priority = 0
    metadata: Annotated[dict[MetadataName, MetadataValue], Field(max_length=MAX_METADATA)] = {}

    @model_validator(mode="after")
    def _batch_fits_somewhere(self) -> Self:
        size = self.hyperparameters.image_size or 224
        if self.hyperparameters.batch_size * size * size * 3 * 4 > MAX_BATCH_BYTES:
            raise ValueError(
                "batch_size and image_size together exceed any device's memory; lower one of them"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """The spec as the JSON that is stored and shown, with every default written out."""
        return self.model_dump(mode="json")


class Slowdown(Part):
    """A rollback of a loss without bounds: from the step after this one the learning rate is multiplied."""

    after_step: Annotated[int, Field(ge=0)]
    factor: Fraction


class Segment(Part):
    """A run of epochs with a learning-rate schedule of its own; `extend` appends one.

    The schedule's clock starts anew at the segment's first step.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    scheduler: Literal["constant", "cosine"]
    planned_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="The schedule's length where an early stop cut the segment short."
    )
    slowdowns: list[Slowdown] = []

    @property
    def schedule_epochs(self) -> int:
        """Over how many epochs the schedule runs."""
        return self.planned_epochs or self.epochs
