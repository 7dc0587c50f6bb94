"""Only garbage goes: unrecorded files of attempts that are over, up to the committed step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import StorageFailed
from models.job_store import RecordedFiles
from models.storage import LocalStorage
from worker.sweep import sweep

CHECKPOINTS, FROZEN = "jobs/job_1/checkpoints", "jobs/job_1/frozen"
NOW = 3  #: the attempt that sweeps
COMMITTED_STEP = 20


def checkpoint(step: int, attempt: int, name: str = "a", suffix: str = "") -> str:
    return f"{CHECKPOINTS}/epoch-0002.step-{step:06d}.attempt-{attempt}.ckpt_{name}.pth{suffix}"


def frozen(attempt: int, name: str = "a", suffix: str = "") -> str:
    return f"{FROZEN}/0123abcd.attempt-{attempt}.{name}.pth{suffix}"


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def put(store: LocalStorage, *keys: str) -> None:
    for key in keys:
        path = store.local_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


def swept(store: LocalStorage, *recorded: str, committed_step: int = COMMITTED_STEP) -> set[str]:
    files = RecordedFiles(frozenset(recorded), committed_step)
    before = set(store.keys(""))
    gone = sweep(store, "job_1", files, before_attempt=NOW)
    assert before - set(store.keys("")) == set(gone), "what it says is what it did"
    return set(gone)


def test_what_killed_attempts_left_goes(store: LocalStorage) -> None:
    garbage = [
        checkpoint(10, 1),
        checkpoint(20, 2),
        checkpoint(20, 2, "b", ".0a1b2c3d.partial"),
        frozen(1),
        frozen(2, "b", ".0a1b2c3d.partial"),
    ]
    put(store, *garbage)
    assert swept(store) == set(garbage)
    assert swept(store) == set(), "and it is no error that they are gone"


def test_what_is_recorded_stays_whatever_became_of_it(store: LocalStorage) -> None:
    """A quarantined checkpoint is evidence, and its row still points at it."""
    committed, quarantined, part = checkpoint(20, 2), checkpoint(10, 1, "quarantined"), frozen(1)
    put(store, committed, quarantined, part, checkpoint(10, 1, "garbage"), frozen(1, "garbage"))
    assert swept(store, committed, quarantined, part) == {checkpoint(10, 1, "garbage"), frozen(1, "garbage")}


def test_files_of_the_attempt_under_way_stay_and_those_of_later_ones(store: LocalStorage) -> None:
    """Its next checkpoint is on its way to the database; and a sweeper may itself be a zombie by now."""
    put(
        store,
        *(checkpoint(10, attempt) for attempt in (NOW, NOW + 1, 10 * NOW)),
        checkpoint(10, NOW, "b", ".0a1b2c3d.partial"),
        *(frozen(attempt) for attempt in (NOW, NOW + 1)),
    )
    assert swept(store) == set()


def test_a_file_beyond_the_committed_step_stays(store: LocalStorage) -> None:
    put(store, checkpoint(20, 1), checkpoint(21, 1), checkpoint(21, 1, "b", ".0a1b2c3d.partial"))
    assert swept(store) == {checkpoint(20, 1)}
    assert swept(store, committed_step=21) == {
        checkpoint(21, 1),
        checkpoint(21, 1, "b", ".0a1b2c3d.partial"),
    }


def test_files_of_others_stay(store: LocalStorage) -> None:
    """Other jobs', also one whose id begins alike; and whatever no attempt wrote."""
    others = [
        checkpoint(10, 1).replace("job_1", "job_2"),
        checkpoint(10, 1).replace("job_1", "job_11"),
        f"{CHECKPOINTS}/notes.txt",
        "jobs/job_1/manifest.attempt-1.json",
    ]
    put(store, *others)
    assert swept(store) == set()


def test_a_job_without_files(store: LocalStorage) -> None:
    assert swept(store) == set()


class Unlistable(LocalStorage):
    """A store that is away."""

    def keys(self, prefix: str) -> Iterator[str]:
        raise OSError(5, f"Input/output error: {prefix}")


class Undeletable(LocalStorage):
    """A store that one may only read."""

    def delete(self, key: str) -> None:
        raise StorageFailed(f"{key} cannot be deleted.")


@pytest.mark.parametrize("kind", [Unlistable, Undeletable])
def test_a_store_that_fails_costs_space_and_no_job(kind: type[LocalStorage], tmp_path: Path) -> None:
    store = kind(tmp_path / "store")
    put(store, checkpoint(10, 1))
    assert sweep(store, "job_1", RecordedFiles(frozenset(), 20), before_attempt=NOW) == []
    assert store.local_path(checkpoint(10, 1)).exists()
