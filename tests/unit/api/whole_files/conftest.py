"""A service whose whole files are put together by processes that do as they are told."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.whole_files import WholeFiles
from models import job_store
from models.database import Database
from models.settings import Settings
from models.tables import checkpoints
from tests.unit.api.children import Children, Split


@pytest.fixture
def children(tmp_path: Path) -> Children:
    (tmp_path / "children").mkdir()
    return Children(tmp_path / "children")


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the service's WholeFiles; change it before ``client`` is asked for."""
    return {"wait_seconds": 20.0, "limit_seconds": 30.0}


@pytest.fixture(autouse=True)
def _with_children(children: Children, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: Path, storage_url: str) -> WholeFiles:
        others = dict(options)
        materialising = children.materialising(others.pop("limit_seconds"))
        return WholeFiles(folder, storage_url, materialising=materialising, **others)

    monkeypatch.setattr("api.app.WholeFiles", make)


@pytest.fixture
def split(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database, settings: Settings
) -> Split:
    job_id = submit(fault_tolerance={"keep_last": 4})["id"]
    worker.claim()
    worker.prepare()
    ids = [worker.epoch(number, keep_last=4) for number in range(1, 4)]
    root = Path(settings.storage_url.removeprefix("file://"))
    frozen = os.urandom(3000)
    path = f"jobs/{job_id}/frozen/abc.pth"
    (root / path).parent.mkdir()
    (root / path).write_bytes(frozen)
    with db.writing() as tx:
        tx.execute(
            update(checkpoints).values(
                frozen_path=path, frozen_sha256=hashlib.sha256(frozen).hexdigest(), frozen_size_bytes=3000
            )
        )
    stored = {each: job_store.get_checkpoint(db, job_id, each).path for each in ids}
    return Split(job_id, ids, {each: frozen + (root / path).read_bytes() for each, path in stored.items()})


@pytest.fixture
def cached(settings: Settings) -> Callable[[str], Path]:
    return lambda name: settings.home / "cache/materialised" / name
