"""Checkpoints and models as files."""

from typing import NoReturn

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import Checkpoint, ModelManifest, Preprocessing
from api.dependencies import CheckpointId, Choice, JobId, Services, ServicesDep
from api.file_response import file_response
from api.openapi import Responses, problems
from models import job_store
from models.catalogue import architecture
from models.errors import ContentGone, NotFound, WrongState
from models.job_store.fence import JobRow

router = APIRouter(tags=["downloads"])

_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE: Responses = {
    200: {"content": _BINARY, "description": "The file, whole. ETag and Repr-Digest carry its SHA-256."},
    206: {"content": _BINARY, "description": "The range that was asked for."},
}


@router.get(
    "/jobs/{job_id}/checkpoints/{checkpoint_id}/content",
    response_class=Response,
    responses=_FILE | problems(404, 410, 416),
)
def checkpoint_content(
    request: Request, job_id: JobId, checkpoint_id: CheckpointId, services: ServicesDep
) -> Response:
    """A checkpoint's file: a `torch.save` zip that `torch.load(path, weights_only=True)` opens.

    It always holds everything. Where frozen layers are stored apart, the first download puts it together.
    """
    row = job_store.get_checkpoint(services.db, job_id, checkpoint_id)
    return _whole_file(request, services, row, row.path.rsplit("/", 1)[-1])


@router.get("/jobs/{job_id}/model", responses=problems(404, 409))
def model(job_id: JobId, services: ServicesDep, checkpoint: Choice = "last") -> ModelManifest:
    """What one needs to know to use the trained model."""
    row = _chosen(services, job_id, checkpoint)
    job = job_store.get_job(services.db, job_id)
    arch = architecture(job.spec["model"]["arch"])
    size = job.spec["hyperparameters"]["image_size"] or arch.image_size
    is_final = job.weights_sha256 is not None and row.step == job.committed_step
    return ModelManifest(
        job_id=job_id,
        checkpoint=Checkpoint.model_validate(row),
        arch=arch.name,
        image_size=size,
        classes=(job.dataset or {}).get("classes"),
        preprocessing=Preprocessing(resize_shorter_side=round(size * 256 / 224), center_crop=size),
        weights_sha256=job.weights_sha256 if is_final else None,
        links={
            "content": f"/jobs/{job_id}/model/content?checkpoint={row.id}",
            "checkpoint": f"/jobs/{job_id}/checkpoints/{row.id}/content",
        },
    )


@router.get(
    "/jobs/{job_id}/model/content", response_class=Response, responses=_FILE | problems(404, 409, 410, 416)
)
def model_content(
    request: Request, job_id: JobId, services: ServicesDep, checkpoint: Choice = "last"
) -> Response:
    """The trained model: the whole checkpoint, whose `model_state_dict` holds the weights."""
    row = _chosen(services, job_id, checkpoint)
    try:
        return _whole_file(request, services, row, f"{job_id}-{row.id}.pth")
    except ContentGone as error:
        _not_now(error)


def _whole_file(request: Request, services: Services, row: JobRow, filename: str) -> Response:
    """As it is stored where that is everything, else put together. Raises as both ways do."""
    if row.frozen_path is None:
        return file_response(
            request,
            lambda: services.storage.open(row.path),
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            filename=filename,
        )
    entry = services.whole_files.entry(row)
    return file_response(
        request,
        lambda: services.whole_files.open(row, entry),
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        filename=filename,
    )


def _chosen(services: Services, job_id: str, which: str) -> JobRow:
    job_store.get_job(services.db, job_id)
    try:
        return job_store.get_checkpoint(services.db, job_id, which)
    except ContentGone as error:
        _not_now(error)
    except NotFound:
        if which not in {"last", "best"}:
            raise
        raise WrongState(
            "There is no committed checkpoint yet; the first one comes with the first epoch."
        ) from None


def _not_now(error: ContentGone) -> NoReturn:
    raise WrongState(error.message) from error
