"""Asking a trained model about an image."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field
from starlette.responses import Response

from api.answers import Answer
from api.dependencies import IN_DIGITS, Choice, JobId, ServicesDep
from api.idempotency import OnceDep, Reply
from api.image_body import IMAGE_BODY, Image
from api.openapi import problems
from api.routes.downloads import chosen_checkpoint

router = APIRouter(tags=["predictions"])


class ClassProbability(Answer):
    """A class and how sure the model is of it."""

    # `class` is no name in Python.
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    name: str = Field(alias="class")
    index: int = Field(description="Its place among the job's classes.")
    probability: float = Field(description="Of the softmax over all classes.")


class Prediction(Answer):
    """What the model sees in the image."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "prediction", "job_id": "job_019e", "checkpoint_id": "ckpt_019e", "epoch": 4,
                "predictions": [
                    {"class": "daisy", "index": 0, "probability": 0.9812},
                    {"class": "rose", "index": 1, "probability": 0.0188},
                ],
            }
        }
    )  # fmt: skip

    object: Literal["prediction"] = "prediction"
    job_id: str
    checkpoint_id: str
    epoch: int = Field(description="Of the checkpoint.")
    predictions: list[ClassProbability] = Field(description="The likeliest classes, the likeliest first.")


@router.post(
    "/jobs/{job_id}/predict",
    response_model=Prediction,
    responses=problems(404, 409, 410, body=True),
    openapi_extra=IMAGE_BODY,
)
def predict(
    job_id: JobId,
    services: ServicesDep,
    once: OnceDep,
    image: Image,
    checkpoint: Choice = "last",
    top_k: Annotated[int, Query(ge=1, le=1000, description="How many classes at most."), IN_DIGITS] = 5,
) -> Response:
    """The likeliest classes of an image, which is prepared as for validation. Nothing is stored."""

    def respond() -> Reply:
        row = chosen_checkpoint(services, job_id, checkpoint)
        found: list[dict[str, Any]] = services.predictor.predict(row, image, top_k)
        return Reply(
            200,
            Prediction(
                job_id=job_id,
                checkpoint_id=row.id,
                epoch=row.epoch,
                predictions=[ClassProbability.model_validate(each) for each in found],
            ),
        )

    return once(respond)
