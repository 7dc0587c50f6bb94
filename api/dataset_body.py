"""From a dataset's row to what users see of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.answers import Answer, JobError
from models import dataset_store
from models.database import Database
from models.dataset_state import DatasetStatus, Source
from models.dataset_store.records import DatasetRow
from models.settings import Settings


class ImageSizes(Answer):
    """Pixels of the images that can be read."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int


class DatasetProblem(Answer):
    """One file that cannot be read."""

    file: str
    message: str


class DatasetBody(Answer):
    """A dataset as it stands."""

    object: Literal["dataset"] = "dataset"
    id: str
    name: str | None
    status: DatasetStatus
    status_reason: str | None = Field(description="Why it is still being checked, or why it failed.")
    source: Source
    path: str | None = Field(description="Of a registered folder, below the data root; else null.")
    builtin: str | None = Field(description="Which of torchvision's own it is; else null.")
    classes: list[str] | None = Field(description="In the order of a model's outputs; null until checked.")
    counts: dict[str, dict[str, int]] | None = Field(
        description="Images by split (`train` and `val`, or `all` where jobs split it) and class."
    )
    num_images: int | None
    image_sizes: ImageSizes | None
    size_bytes: int | None = Field(description="Of the archive until it is checked, then of all images.")
    digest: str | None = Field(description="SHA-256 over names, bytes, classes and splits; once ready.")
    problems: list[DatasetProblem] = Field(description="Files that cannot be read, 100 at most.")
    num_problems: int
    error: JobError | None = Field(description="Why it failed.")
    progress: dict[str, int] | None = Field(
        description="Files done and in all, while it is being checked; MiB so far and 0, while it is fetched."
    )
    created_at: datetime
    checked_at: datetime | None
    links: dict[str, str]


def dataset_bodies(db: Database, settings: Settings, rows: Sequence[DatasetRow]) -> list[DatasetBody]:
    """The bodies of a page of datasets."""
    waits = any(row.status == DatasetStatus.CHECKING for row in rows)
    silent_after = 2 * settings.lease_seconds
    online = dataset_store.light_workers_online(db, silent_after_seconds=silent_after) if waits else 0
    return [_body(row, online) for row in rows]


def dataset_body(db: Database, settings: Settings, row: DatasetRow) -> DatasetBody:
    """The body of one dataset."""
    return dataset_bodies(db, settings, [row])[0]


def _body(row: DatasetRow, light_workers: int) -> DatasetBody:
    found: dict[str, Any] = row.found or {}
    is_checking = row.status == DatasetStatus.CHECKING
    return DatasetBody(
        id=row.id,
        name=row.name,
        status=row.status,
        status_reason=_reason(row, light_workers),
        source=row.source,
        path=row.folder if row.source == Source.PATH else None,
        builtin=row.folder.rpartition("/")[2] if row.source == Source.BUILTIN else None,
        classes=found.get("classes"),
        counts=found.get("counts"),
        num_images=found.get("num_images"),
        image_sizes=found.get("image_sizes"),
        size_bytes=row.size_bytes,
        digest=row.digest,
        problems=found.get("problems", []),
        num_problems=found.get("num_problems", 0),
        error=None if row.error_code is None else JobError(code=row.error_code, message=row.error_message),
        progress={"done": row.files_done, "total": row.files_total} if is_checking else None,
        created_at=row.created_at,
        checked_at=row.checked_at,
        links={"self": f"/datasets/{row.id}"},
    )


def _reason(row: DatasetRow, light_workers: int) -> str | None:
    if row.status == DatasetStatus.FAILED:
        return str(row.error_message)
    if row.status == DatasetStatus.READY:
        return None
    if row.worker_id is not None and not row.is_lost:
        again = f" The last try came to nothing: {row.trouble}" if row.trouble else ""
        return f"A light worker reads its files.{again}"
    if light_workers:
        return "Waits for a light worker; others are checked first."
    return "Waits for a light worker, and none is online; `perdure worker --light` starts one."
