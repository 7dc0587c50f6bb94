"""The service in this process, on SQLite in a temporary folder, with a doorbell that only counts."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from models import job_store, migrate
from models.database import Database
from models.host import Owner
from models.identifiers import new_id
from models.job_state import EndCause
from models.settings import Settings
from models.tables import metadata

CLASSES = ("daisy", "rose", "tulip")
SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PERDURE_"):
            monkeypatch.delenv(name)


@dataclass
class Bell:
    """Remembers the rings; the broker answers unless told otherwise."""

    rings: list[str] = field(default_factory=list)
    answers: bool = True
    closed: bool = False

    def ring(self, device_class: str) -> None:
        self.rings.append(device_class)

    def ping(self, timeout: float = 1.0) -> bool:
        return self.answers

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Bell:
    made = Bell()
    monkeypatch.setattr("api.app.Doorbell", lambda broker_url: made)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path, reconcile_seconds=3600.0, downloads=True)
    make_dataset(settings.data_folder / "flowers")
    return settings


def make_dataset(folder: Path, classes: tuple[str, ...] = CLASSES, images: int = 2) -> None:
    """Class folders with files that look like images by their names."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            (folder / name / f"{number}.jpg").write_bytes(b"not looked into")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, to be copied: making them takes longer than most tests."""
    file = tmp_path_factory.mktemp("template") / "perdure.db"
    db = Database(f"sqlite:///{file}")
    metadata.create_all(db.engine)
    db.close()
    return file


@pytest.fixture
def db(settings: Settings, empty_database: Path) -> Iterator[Database]:
    shutil.copy(empty_database, settings.home / "perdure.db")
    db = Database(settings.database_url)
    yield db
    db.close()


@pytest.fixture
def client(
    settings: Settings, db: Database, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    # `create_all` is faster than the migrations, but leaves no revision behind.
    monkeypatch.setattr("api.routes.health.schema_state", _state_of_created_tables)
    with TestClient(create_app(settings)) as client:
        yield client


def _state_of_created_tables(db: Database) -> str:
    db.ping()
    return "current"


@pytest.fixture
def submit(client: TestClient) -> Callable[..., dict[str, Any]]:
    """Post a spec that is fine but for what is changed; its job's body."""

    def post(**changes: Any) -> dict[str, Any]:
        response = client.post("/jobs", json={**SPEC, **changes})
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body

    return post


@pytest.fixture
def num_jobs(db: Database) -> Callable[[], int]:
    return lambda: len(job_store.list_jobs(db, limit=1000))


class FakeWorker:
    """Does to the database what a worker does, with files of random bytes for checkpoints."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings
        self.owner = Owner.this_process("wrk_test")
        self.fence: job_store.Fence
        self.steps_per_epoch = 5

    def register(self) -> None:
        job_store.register_worker(self.db, self.owner, device="cpu", slot="cpu:2", threads=2, version="0")

    def claim(self) -> str:
        claimed = job_store.claim(self.db, self.owner, "cpu", "cpu:2", lease_seconds=60.0)
        assert claimed is not None
        self.fence = claimed.fence
        return claimed.job.id

    def prepare(self, *, epochs: int = 4, from_checkpoint: str | None = None, step: int = 0) -> None:
        job_store.dataset_checked(
            self.db, self.fence, "manifest.json", {"classes": list(CLASSES), "num_train": 5, "num_val": 1}
        )
        job_store.prepared(
            self.db, self.fence, slot="cpu:2", numerics={"threads": 2}, fingerprint={}, inexact_reasons=[],
            from_checkpoint=from_checkpoint, epochs_done=step // self.steps_per_epoch, step=step,
            steps=epochs * self.steps_per_epoch,
        )  # fmt: skip

    def epoch(self, number: int, *, val_loss: float = 1.0, seconds: float = 0.001, keep_last: int = 2) -> str:
        """Train and commit epoch ``number``; the id of its checkpoint."""
        step = number * self.steps_per_epoch
        checkpoint_id = new_id("ckpt")
        path = f"jobs/{self.fence.job_id}/checkpoints/epoch-{number:04d}.{checkpoint_id}.pth"
        content = os.urandom(1000)
        file = Path(self.settings.storage_url.removeprefix("file://")) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        rows = [
            {"step": s, "epoch": number, "loss": 1.0 / s, "learning_rate": 0.001}
            for s in range(step - self.steps_per_epoch + 1, step + 1)
        ]
        committed = job_store.commit_checkpoint(
            self.db,
            self.fence,
            {
                "id": checkpoint_id, "epoch": number, "step": step, "path": path, "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(), "val_loss": val_loss,
            },
            step_rows=rows,
            epoch_rows=[{
                "epoch": number, "step": step, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": val_loss,
                "val_accuracy": 0.8, "learning_rate": 0.001, "images_per_second": 10.0,
                "duration_seconds": seconds,
            }],
            epochs_done=number,
            keep_last=keep_last,
        )  # fmt: skip
        for pruned in committed.pruned_paths:
            (Path(self.settings.storage_url.removeprefix("file://")) / pruned).unlink()
        return checkpoint_id

    def run(self, *, epochs: int = 4) -> str:
        """Claim a job and bring it to its end; its id."""
        job_id = self.claim()
        self.prepare(epochs=epochs)
        for number in range(1, epochs + 1):
            self.epoch(number, val_loss=1.0 / number)
        job_store.finish(self.db, self.fence, "ab" * 32)
        return job_id

    def fail(self, code: str = "dataset_changed") -> None:
        job_store.fail(self.db, self.fence, EndCause.TRAINER_ERROR, code, "It cannot go on.")

    def log(self, attempt: int, text: str) -> None:
        root = Path(self.settings.storage_url.removeprefix("file://"))
        file = root / f"jobs/{self.fence.job_id}/logs/attempt-{attempt}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def worker(db: Database, settings: Settings) -> FakeWorker:
    return FakeWorker(db, settings)


@pytest.fixture
def migrated(settings: Settings) -> Iterator[Database]:
    """A database as `perdure migrate` leaves it."""
    db = Database(settings.database_url)
    migrate.upgrade(db)
    yield db
    db.close()


def expect_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer is a problem in full, and tells nothing that it should not."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id", "errors"}
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == f"urn:perdure:problem:{body['code']}"
    assert body["detail"] and "Traceback" not in response.text and "site-packages" not in response.text
    for error in body["errors"]:
        assert set(error) == {"field", "message", "code"}
    if code is not None:
        assert body["code"] == code, body
    return body


@pytest.fixture
def problem() -> Callable[..., dict[str, Any]]:
    return expect_problem
