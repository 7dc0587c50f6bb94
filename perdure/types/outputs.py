"""What a job leaves behind: models, predictions, comparisons."""

from typing import Any

from pydantic import Field

from perdure.types.answer import Answer
from perdure.types.history import Checkpoint, EpochMetrics
from perdure.types.jobs import Best


class Model(Answer):
    """What one needs to know to use a trained model."""

    job_id: str
    checkpoint: Checkpoint
    arch: str
    dropout: float | None = None
    image_size: int | None = None
    classes: list[str] | None = None  #: in the order of the outputs
    preprocessing: dict[str, Any] = {}
    weights_sha256: str | None = None


class ClassProbability(Answer):
    """A class, and how sure the model is of it."""

    name: str = Field(alias="class")
    index: int | None = None  #: its place among the job's classes
    probability: float


class Prediction(Answer):
    """What a model sees in an image: the likeliest classes, the likeliest first."""

    job_id: str
    checkpoint_id: str | None = None
    epoch: int | None = None
    predictions: list[ClassProbability]


class ComparedJob(Answer):
    """One of several jobs, and its results."""

    id: str
    name: str | None = None
    status: str
    exact: bool | None = None
    epochs_done: int = 0
    best: Best | None = None
    last: EpochMetrics | None = None
    weights_sha256: str | None = None


class Difference(Answer):
    """A field in which specs differ, with one value for each job."""

    field: str
    values: list[Any]


class ComparedEpoch(Answer):
    """An epoch of several jobs; None for those that have not done it."""

    epoch: int
    metrics: list[EpochMetrics | None]


class Comparison(Answer):
    """Jobs side by side; every list is in the order of ``jobs``."""

    jobs: list[ComparedJob]
    spec: list[Difference] = []
    same_dataset: bool | None = None
    same_weights: bool | None = None  #: bit for bit; None until all of them succeeded
    epochs: list[ComparedEpoch] = []
    has_more: bool = False
    last_id: int | None = None
