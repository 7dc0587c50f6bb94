"""Datasets: uploaded or registered, checked in the background, used by jobs, deleted."""

import structlog
from fastapi import APIRouter
from starlette.responses import Response

from api.answers import Page
from api.dataset_body import DatasetBody, dataset_bodies, dataset_body
from api.dataset_layout import look_at
from api.dependencies import AfterDataset, CallerDep, Limit, Services, ServicesDep
from api.idempotency import OnceDep, Reply
from api.ids import DatasetId
from api.openapi import problems, request_body
from api.registration import Registration
from api.upload_form import FORM, FORM_SCHEMA
from api.uploads import SubmissionDep, Upload
from api.validation import expect_builtin
from models import builtin_datasets, dataset_store, uploads
from models.archives import expect_images, opened
from models.dataset_state import LIGHT, Source
from models.dataset_store.records import DatasetRow
from models.errors import DatasetInvalid, SpecInvalid, StorageFailed
from models.identifiers import new_id

router = APIRouter(tags=["datasets"])
_log = structlog.get_logger()


@router.post(
    "/datasets",
    status_code=202,
    response_model=DatasetBody,
    responses={
        201: {"model": DatasetBody, "description": "It is registered, and is being checked."},
        202: {"model": DatasetBody, "description": "The archive was taken; it is being checked."},
        **problems(409, body=True),
    },
    openapi_extra=request_body(
        Registration,
        {"path": "flowers4"},
        others={"application/zip": {"type": "string", "format": "binary"}, FORM: FORM_SCHEMA},
    ),
)
def create(submission: SubmissionDep, services: ServicesDep, caller: CallerDep, once: OnceDep) -> Response:
    """Upload a zip of images, as the body or as the `file` of a form; or register what need not be sent.

    That is a folder of the data root (`path`) or one of torchvision's own datasets (`builtin`). A zip or a
    folder holds `train/<class>/*` and `val/<class>/*`, or `<class>/*` alone; a zip also a CSV of labels.
    """

    def respond() -> Reply:
        if isinstance(submission, Upload):
            status, row = 202, _take(services, submission, caller.tenant_id)
        else:
            status, row = 201, _register(services, submission, caller.tenant_id)
        services.doorbell.ring(LIGHT)
        body = dataset_body(services.db, services.settings, row)
        return Reply(status, body, {"Location": f"/datasets/{row.id}"})

    return once(respond)


@router.get("/datasets", responses=problems())
def list_datasets(
    services: ServicesDep, caller: CallerDep, limit: Limit = 20, after: AfterDataset = None
) -> Page[DatasetBody]:
    """Datasets, the newest first."""
    rows = dataset_store.list_datasets(services.db, tenant_id=caller.tenant_id, after=after, limit=limit + 1)
    bodies = dataset_bodies(services.db, services.settings, rows[:limit])
    return Page(data=bodies, has_more=len(rows) > limit, last_id=bodies[-1].id if bodies else None)


@router.get("/datasets/{dataset_id}", responses=problems(404))
def show(dataset_id: DatasetId, services: ServicesDep, caller: CallerDep) -> DatasetBody:
    """One dataset: whether it is ready, what is in it, and what is wrong with it."""
    row = dataset_store.get_dataset(services.db, dataset_id, caller.tenant_id)
    return dataset_body(services.db, services.settings, row)


@router.delete("/datasets/{dataset_id}", status_code=204, responses=problems(403, 404, 409))
def delete(dataset_id: DatasetId, services: ServicesDep, caller: CallerDep) -> Response:
    """Forget a dataset. An upload's files are removed; what was registered stays as it is."""
    row = dataset_store.delete_dataset(services.db, dataset_id, caller.tenant_id)
    # The row is gone first: whatever is left behind by a crash here is garbage, and is swept.
    if row.source == Source.UPLOAD:
        uploads.remove(services.settings.uploads_folder, dataset_id)
    try:
        for key in list(services.storage.keys(f"datasets/{dataset_id}")):
            services.storage.delete(key)
    except (OSError, StorageFailed):
        _log.exception("dataset.manifest_left", dataset_id=dataset_id)
    return Response(status_code=204)


def _take(services: Services, upload: Upload, tenant_id: str) -> DatasetRow:
    """The archive becomes a dataset's own, or is refused. Raises ArchiveInvalid, QuotaExceeded, OSError."""
    settings = services.settings
    with opened(upload.path, settings.max_upload_bytes) as plan:
        expect_images(plan)
        unpacked_bytes = sum(member.entry.file_size for member in plan.members)
    # What is kept in the end are the images, which may be many times the archive.
    if unpacked_bytes > upload.size_bytes:
        services.store_quota.expect_room(tenant_id, unpacked_bytes - upload.size_bytes)
    uploads.keep(settings.uploads_folder, upload.dataset_id)
    return dataset_store.create_dataset(
        services.db, upload.dataset_id, Source.UPLOAD, name=upload.name, folder=None,
        size_bytes=upload.size_bytes, tenant_id=tenant_id,
    )  # fmt: skip


def _register(services: Services, registration: Registration, tenant_id: str) -> DatasetRow:
    """Raises SpecInvalid, DatasetInvalid, DatasetUnavailable."""
    settings = services.settings
    if registration.builtin is not None:
        expect_builtin(registration.builtin, settings, "builtin")
        source, folder = Source.BUILTIN, builtin_datasets.folder_of(registration.builtin)
    else:
        source, folder = Source.PATH, str(registration.path)
        try:
            look_at(settings.data_folder, folder, uploads=settings.uploads_folder)
        except (SpecInvalid, DatasetInvalid) as error:
            raise type(error)(error.message, field="path") from error
    return dataset_store.create_dataset(
        services.db, new_id("ds"), source, name=registration.name, folder=folder, size_bytes=None,
        tenant_id=tenant_id,
    )  # fmt: skip
