"""Logs of trainers where the store has no files: written here, handed in when the attempt has ended."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import StorageFailed
from models.job_store import Fence
from models.storage import HashingWriter, LocalStorage
from worker.trainer_logs import TrainerLogs


class Sink(HashingWriter):
    def __init__(self) -> None:
        super().__init__()
        self.held = io.BytesIO()

    def _take(self, view: memoryview) -> None:
        self.held.write(view)


class Bucket:
    """Keeps objects in memory, unless it is away."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_away = False

    def write(self, key: str, produce: Callable[[HashingWriter], object]) -> None:
        if self.is_away:
            raise StorageFailed
        sink = Sink()
        sink.fill(produce)
        self.objects[key] = sink.held.getvalue()


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def logs(bucket: Any, tmp_path: Path) -> TrainerLogs:
    for attempt in (1, 2, 3):
        path = tmp_path / f"logs/job_1/attempt-{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"printed by {attempt}")
    return TrainerLogs(bucket, tmp_path)


def key(attempt: int) -> str:
    return f"jobs/job_1/logs/attempt-{attempt}.log"


def test_what_has_ended_is_handed_in_and_what_runs_is_not(
    logs: TrainerLogs, bucket: Bucket, tmp_path: Path
) -> None:
    logs.ended("job_1", 2)
    logs.wait(10)
    assert bucket.objects == {key(1): b"printed by 1", key(2): b"printed by 2"}
    assert [path.name for path in (tmp_path / "logs/job_1").iterdir()] == ["attempt-3.log"]


def test_a_store_that_is_away_costs_no_log_and_no_job(
    logs: TrainerLogs, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.is_away = True
    logs.ended("job_1", 2)
    logs.wait(10)
    assert len([*(tmp_path / "logs/job_1").iterdir()]) == 3
    bucket.is_away = False
    logs.ended("job_1", 3)
    logs.wait(10)
    assert set(bucket.objects) == {key(1), key(2), key(3)}


def test_a_job_that_never_ran_here_has_nothing_to_hand_in(logs: TrainerLogs, bucket: Bucket) -> None:
    logs.ended("job_2", 7)
    logs.wait(10)
    assert bucket.objects == {}


def test_a_folder_takes_the_output_as_it_comes(tmp_path: Path) -> None:
    logs = TrainerLogs(LocalStorage(tmp_path / "store"), tmp_path)
    assert logs.path(Fence("job_1", 2)) == tmp_path / "store" / key(2)


def test_other_stores_get_a_file_of_this_machine(logs: TrainerLogs, tmp_path: Path) -> None:
    assert logs.path(Fence("job_1", 2)) == tmp_path / "logs/job_1/attempt-2.log"
