"""What can be trained here."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.answers import Page
from api.openapi import problems
from models.catalogue import Architecture, architectures, weights_present

router = APIRouter(tags=["catalogue"])


class WeightsBody(BaseModel):
    """Published weights."""

    name: str
    file: str
    size_bytes: int
    is_default: bool
    present: bool = Field(description="On this installation; the others are fetched where downloads are on.")


class ArchitectureBody(BaseModel):
    """A torchvision classification architecture."""

    name: str
    image_size: int = Field(description="Pixels a side where a spec does not say.")
    min_size: int
    size_multiple: int = Field(description="Image sizes must be multiples of this.")
    num_stages: int = Field(description="How many stages `model.freeze` can freeze.")
    num_params: int
    weights: list[WeightsBody]
    weights_present: bool = Field(description="Whether the default weights are on this installation.")


@router.get("/models", responses=problems())
def models() -> Page[ArchitectureBody]:
    """The architectures by name, and which of their pretrained weights are on this installation."""
    bodies = [_body(arch) for arch in architectures()]
    return Page(data=bodies, has_more=False, last_id=bodies[-1].name if bodies else None)


def _body(arch: Architecture) -> ArchitectureBody:
    return ArchitectureBody(
        name=arch.name,
        image_size=arch.image_size,
        min_size=arch.min_size,
        size_multiple=arch.size_multiple,
        num_stages=arch.num_stages,
        num_params=arch.num_params,
        weights=[
            WeightsBody(
                name=entry.name,
                file=entry.file,
                size_bytes=entry.size_bytes,
                is_default=entry.is_default,
                present=weights_present(entry),
            )
            for entry in arch.weights
        ],
        weights_present=weights_present(arch.default_weights),
    )
