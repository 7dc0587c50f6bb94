"""Uploads into a service in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import dataset_store
from models.database import Database
from models.host import Owner
from models.settings import Settings

ZIP = {"Content-Type": "application/zip"}


@pytest.fixture
def upload(client: TestClient) -> Callable[..., Any]:
    """Send an archive; the answer, whatever it is."""

    def send(archive: bytes, **params: str) -> Any:
        return client.post("/datasets", content=archive, headers=ZIP, params=params)

    return send


@pytest.fixture
def leftovers(settings: Settings, db: Database) -> Callable[[], tuple[list[Path], int]]:
    """Files of uploads, and the number of rows."""

    def look() -> tuple[list[Path], int]:
        files = [path for path in settings.uploads_folder.rglob("*") if path.is_file()]
        return files, len(dataset_store.list_datasets(db, limit=100))

    return look


FOUND: dict[str, Any] = {
    "classes": ["daisy", "rose"], "counts": {"all": {"daisy": 3, "rose": 3}}, "num_images": 6,
    "image_sizes": {"min_width": 8, "max_width": 8, "min_height": 9, "max_height": 9},
    "problems": [], "num_problems": 0,
}  # fmt: skip


@pytest.fixture
def check(db: Database) -> Callable[..., Any]:
    """What a light worker does: claim the oldest, and record what it found."""

    def claim() -> dataset_store.Check:
        claimed = dataset_store.claim_check(db, Owner.this_process("wrk_light"), 60.0)
        assert claimed is not None
        return claimed

    def finish(*, error: str | None = None) -> str:
        claimed = claim()
        if error is None:
            dataset_store.finish_check(
                db, claimed, folder=claimed.dataset.folder or f"{claimed.dataset.id}/files.attempt-1",
                found=FOUND, digest="ab" * 32, manifest_path="datasets/x/manifest.json", size_bytes=100,
            )  # fmt: skip
        else:
            problems = [{"file": "rose/1.png", "message": error}]
            found = FOUND | {"problems": problems, "num_problems": 1}
            dataset_store.fail_check(db, claimed, "dataset_invalid", error, found)
        return str(claimed.dataset.id)

    finish.claim = claim  # type: ignore[attr-defined]
    return finish
