"""What killed processes leave in the cache of downloads goes; what is being written stays."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from api.download_cache import FRESH_SECONDS, STALE_SECONDS, DownloadCache


@pytest.fixture
def cache(tmp_path: Path) -> DownloadCache:
    return DownloadCache(tmp_path, 10**6)


def partial(folder: Path, age_seconds: float) -> Path:
    path = folder / f"ckpt_1.pth.{age_seconds}.partial"
    path.write_bytes(b"half")
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    return path


def test_leftovers_are_swept(cache: DownloadCache) -> None:
    left, fresh = partial(cache.folder, FRESH_SECONDS + 1), partial(cache.folder, 0.0)
    finished = cache.folder / "ckpt_1.pth"
    finished.write_bytes(b"whole")
    cache.sweep()
    assert not left.exists() and fresh.exists() and finished.exists()


def test_a_file_that_is_being_written_stays(cache: DownloadCache) -> None:
    path = partial(cache.folder, STALE_SECONDS + 1)
    with path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        cache.sweep()
        assert path.exists()
    cache.sweep()
    assert not path.exists()


def test_without_locks_age_decides(cache: DownloadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, young = partial(cache.folder, STALE_SECONDS + 10), partial(cache.folder, STALE_SECONDS - 10)
    cache.sweep()
    assert not old.exists() and young.exists()


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    cache = DownloadCache(tmp_path / "not/there", 1)
    cache.sweep()
    assert cache.find("ckpt_1") is None
