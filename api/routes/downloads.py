"""Checkpoints and models as files."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import Checkpoint, ModelManifest, Preprocessing
from api.dependencies import Choice, JobId, Services, ServicesDep
from api.file_response import file_response
from api.ids import CheckpointId
from api.materialising import Kind
from api.openapi import Responses, problems
from models import job_store
from models.catalogue import architecture
from models.errors import ContentGone, NotFound, WrongState
from models.job_store.fence import JobRow

router = APIRouter(tags=["downloads"])

ZIP, ONNX = "application/zip", "application/octet-stream"


def _files(*media_types: str) -> Responses:
    content = {each: {"schema": {"type": "string", "format": "binary"}} for each in media_types}
    return {
        200: {"content": content, "description": "The file, whole. ETag and Repr-Digest carry its SHA-256."},
        206: {"content": content, "description": "The range that was asked for."},
    }


_PTH = _files("application/octet-stream")


@router.get(
    "/jobs/{job_id}/checkpoints/{checkpoint_id}/content",
    response_class=Response,
    responses=_PTH | problems(404, 410, 416),
)
def checkpoint_content(
    request: Request, job_id: JobId, checkpoint_id: CheckpointId, services: ServicesDep
) -> Response:
    """A checkpoint's file: a `torch.save` zip that `torch.load(path, weights_only=True)` opens.

    `last` and `best` stand for those checkpoints. It always holds everything; where frozen layers are stored
    apart, the first download puts it together.
    """
    row = job_store.get_checkpoint(services.db, job_id, checkpoint_id)
    filename = row.path.rsplit("/", 1)[-1]
    if row.frozen_path is not None:
        return _made_file(request, services, row, "checkpoint", filename)
    return file_response(
        request,
        lambda: services.storage.open(row.path),
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        filename=filename,
    )


@router.get("/jobs/{job_id}/model", responses=problems(404, 409))
def model(job_id: JobId, services: ServicesDep, checkpoint: Choice = "last") -> ModelManifest:
    """What one needs to know to use the trained model."""
    row = chosen_checkpoint(services, job_id, checkpoint)
    job = job_store.get_job(services.db, job_id)
    arch = architecture(job.spec["model"]["arch"])
    size = job.spec["hyperparameters"]["image_size"] or arch.image_size
    is_final = job.weights_sha256 is not None and row.step == job.committed_step
    return ModelManifest(
        job_id=job_id,
        checkpoint=Checkpoint.model_validate(row),
        arch=arch.name,
        dropout=job.spec["model"]["dropout"],
        image_size=size,
        classes=(job.dataset or {}).get("classes"),
        preprocessing=Preprocessing(resize_shorter_side=round(size * 256 / 224), center_crop=size),
        weights_sha256=job.weights_sha256 if is_final else None,
        links={
            "content": f"/jobs/{job_id}/model/content?checkpoint={row.id}",
            "predict": f"/jobs/{job_id}/predict?checkpoint={row.id}",
            "checkpoint": f"/jobs/{job_id}/checkpoints/{row.id}/content",
        },
    )


@router.get(
    "/jobs/{job_id}/model/content",
    response_class=Response,
    responses=_files(ZIP, ONNX) | problems(404, 409, 410, 416, 501),
)
def model_content(
    request: Request,
    job_id: JobId,
    services: ServicesDep,
    checkpoint: Choice = "last",
    format: Annotated[  # noqa: A002 - the parameter's name for users
        Literal["zip", "onnx"], Query(description="`onnx` takes the extra of that name beside the API.")
    ] = "zip",
) -> Response:
    """The trained model for use elsewhere; nothing of Perdure is needed.

    `zip`: `model.safetensors`, `manifest.json` with classes and preprocessing, and `predict.py`, which
    classifies images with torch and torchvision alone. `onnx`: one file from pixels to probabilities for
    ONNX Runtime and others, with the manifest in its metadata.

    The first download makes it; the `.pth` to go on training from is the checkpoint's content.
    """
    row = chosen_checkpoint(services, job_id, checkpoint)
    name = f"{job_id}-{row.id}.{format}"
    if format == "onnx":
        return _made_file(request, services, row, "onnx", name, media_type=ONNX)
    return _made_file(request, services, row, "model", name, media_type=ZIP)


def _made_file(
    request: Request,
    services: Services,
    row: JobRow,
    kind: Kind,
    filename: str,
    media_type: str = "application/octet-stream",
) -> Response:
    """Out of what is stored. Raises as ``WholeFiles``."""
    entry = services.whole_files.entry(row, kind)
    return file_response(
        request,
        lambda: services.whole_files.open(row, entry, kind),
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        filename=filename,
        media_type=media_type,
    )


def chosen_checkpoint(services: Services, job_id: str, which: str) -> JobRow:
    """``last``, ``best`` or an id. Raises NotFound, WrongState where there is no such file (yet)."""
    job_store.get_job(services.db, job_id)
    try:
        return job_store.get_checkpoint(services.db, job_id, which)
    except ContentGone as error:
        raise WrongState(error.message) from error
    except NotFound:
        if which not in {"last", "best"}:
            raise
        raise WrongState(
            "There is no committed checkpoint yet; the first one comes with the first epoch."
        ) from None
