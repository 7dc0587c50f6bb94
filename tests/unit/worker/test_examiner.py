"""The light worker with children that stand in for the decoder: they answer, hang, crash, or never end."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models import dataset_store, migrate, uploads
from models.database import Database
from models.dataset_state import Source
from models.host import Owner
from models.identifiers import new_id
from models.settings import Settings
from tests.servers.waiting import until
from worker.examiner import Examiner
from worker.presence import Presence
from worker.slot import NoDevice

READS = "import json, os, signal, sys, time\nasked = json.load(sys.stdin)\n"
#: Says that it works until the file `go` is there, then what it found.
GOOD = (
    READS
    + """
while not os.path.exists("{folder}/go"):
    print(json.dumps({{"done": 3, "total": 7}}), flush=True)
    time.sleep(0.02)
print(json.dumps({{"digest": "ab" * 32, "size_bytes": 5, "found": {{"threads": asked["threads"]}}}}))
"""
)
BAD = (
    READS
    + """
print(json.dumps({"code": "dataset_invalid", "message": "One class.", "found": None}))
sys.exit(1)
"""
)
CRASHES = READS + "os.kill(os.getpid(), signal.SIGSEGV)\n"
HANGS = READS + "time.sleep(1000)\n"
FULL = READS + """print(json.dumps({"code": "storage_failed", "message": "No space.", "found": None}))"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, lease_seconds=4.0, heartbeat_seconds=0.1, stall_seconds=0.6)


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    db = Database(settings.database_url)
    migrate.upgrade(db)
    yield db
    db.close()


@pytest.fixture
def examiner(db: Database, settings: Settings) -> Callable[[str], Examiner]:
    def make(script: str) -> Examiner:
        return Examiner(db, settings, Owner.this_process(new_id("wrk")), [sys.executable, "-c", script])

    return make


@pytest.fixture
def dataset_id(db: Database, settings: Settings) -> str:
    """An upload that waits."""
    identifier = new_id("ds")
    uploads.incoming_file(settings.uploads_folder, identifier).write_bytes(b"PK")
    uploads.keep(settings.uploads_folder, identifier)
    dataset_store.create_dataset(db, identifier, Source.UPLOAD, name=None, folder=None, size_bytes=2)
    return identifier


def test_what_was_found_is_recorded_and_the_archive_goes(
    examiner: Any, db: Database, settings: Settings, dataset_id: str, tmp_path: Path
) -> None:
    (settings.uploads_folder / dataset_id / "files.attempt-1").mkdir()
    (settings.uploads_folder / dataset_id / "files.attempt-0").mkdir()
    (tmp_path / "go").touch()
    examiner(GOOD.format(folder=tmp_path)).work_until_idle()
    row = dataset_store.get_dataset(db, dataset_id)
    assert (row.status, row.digest, row.size_bytes) == ("ready", "ab" * 32, 5)
    assert row.folder == f"{dataset_id}/files.attempt-1"
    assert row.manifest_path == f"datasets/{dataset_id}/manifest.attempt-1.json"
    assert [path.name for path in (settings.uploads_folder / dataset_id).iterdir()] == ["files.attempt-1"]


def test_what_is_wrong_is_recorded_and_all_files_go(
    examiner: Any, db: Database, settings: Settings, dataset_id: str
) -> None:
    examiner(BAD).work_until_idle()
    row = dataset_store.get_dataset(db, dataset_id)
    assert (row.status, row.error_code, row.error_message) == ("failed", "dataset_invalid", "One class.")
    assert list((settings.uploads_folder / dataset_id).iterdir()) == []


def test_a_long_check_keeps_its_lease_and_shows_how_far_it_is(
    examiner: Any, db: Database, dataset_id: str, tmp_path: Path
) -> None:
    works = examiner(GOOD.format(folder=tmp_path))
    thread = threading.Thread(target=works.work_until_idle)
    thread.start()
    try:
        until(lambda: dataset_store.get_dataset(db, dataset_id).files_done == 3, seconds=20, what="progress")
        lease = dataset_store.get_dataset(db, dataset_id).lease_expires_at
        until(
            lambda: dataset_store.get_dataset(db, dataset_id).lease_expires_at > lease,
            seconds=20, what="a renewal",
        )  # fmt: skip
        assert not works.is_idle and works.job_id == dataset_id
    finally:
        (tmp_path / "go").touch()
        thread.join(20)
    assert dataset_store.get_dataset(db, dataset_id).status == "ready"


def test_a_worker_that_stops_hands_it_back(
    examiner: Any, db: Database, dataset_id: str, tmp_path: Path
) -> None:
    works = examiner(GOOD.format(folder=tmp_path))
    thread = threading.Thread(target=works.work_until_idle)
    thread.start()
    until(lambda: dataset_store.get_dataset(db, dataset_id).files_done == 3, seconds=20, what="progress")
    works.stop()
    assert works.join(20)
    thread.join(20)
    row = dataset_store.get_dataset(db, dataset_id)
    assert (row.status, row.worker_id, row.tries, row.attempt) == ("checking", None, 0, 1)
    (tmp_path / "go").touch()
    examiner(GOOD.format(folder=tmp_path)).work_until_idle()
    assert dataset_store.get_dataset(db, dataset_id).attempt == 2


def test_a_dataset_that_is_deleted_ends_its_check(
    examiner: Any, db: Database, settings: Settings, dataset_id: str, tmp_path: Path
) -> None:
    works = examiner(GOOD.format(folder=tmp_path))
    thread = threading.Thread(target=works.work_until_idle)
    thread.start()
    until(lambda: dataset_store.get_dataset(db, dataset_id).files_done == 3, seconds=20, what="progress")
    dataset_store.delete_dataset(db, dataset_id)
    thread.join(20)
    assert not thread.is_alive() and works.is_idle


@pytest.mark.parametrize(
    ("script", "words"), [(CRASHES, "status -11"), (HANGS, "no progress"), (FULL, "No space")]
)
def test_a_check_that_comes_to_nothing_waits_for_its_next_try(
    examiner: Any, db: Database, dataset_id: str, script: str, words: str
) -> None:
    examiner(script).work_until_idle()
    row = dataset_store.get_dataset(db, dataset_id)
    assert (row.status, row.tries) == ("checking", 1) and row.lease_expires_at is not None
    assert words in row.trouble


def test_it_is_rung_for_datasets_alone(examiner: Any, db: Database, settings: Settings) -> None:
    works = examiner(BAD)
    presence = Presence(db, settings, Owner.this_process("wrk_1"), NoDevice(), works)
    assert presence.classes == ["light"]
    for device_class in ("any", "cpu", "cuda"):
        presence.nudge(device_class)
    assert not presence._nudged.is_set()
    presence.nudge("light")
    assert presence._nudged.is_set()


def test_drained_it_claims_nothing(examiner: Any, db: Database, dataset_id: str) -> None:
    works = examiner(BAD)
    works.stand_aside("draining")
    works.work_until_idle()
    assert dataset_store.get_dataset(db, dataset_id).status == "checking"
    assert works.stand_by() and not works.stand_by()
    works.work_until_idle()
    assert dataset_store.get_dataset(db, dataset_id).status == "failed"
