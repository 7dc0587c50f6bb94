"""Where the files of uploaded datasets lie: ``<uploads>/<dataset>/``, the archive first, then what was in it.

Bytes first, record second: what no row knows is garbage, and is swept away once it is old enough that nobody
can be about to record it.
"""

import os
import shutil
import time
from pathlib import Path

from models import builtin_datasets, dataset_store
from models.database import Database

ARCHIVE = "upload.zip"
#: Bodies that still arrive, each a file of its own.
INCOMING = ".incoming"
#: An upload under way writes its file at least every half minute, and is recorded soon after its last byte.
GRACE_SECONDS = 3600.0


def unpacked_name(attempt: int) -> str:
    """The folder that a check unpacks into: no two attempts ever write to the same one."""
    return f"files.attempt-{attempt}"


def incoming_file(uploads: Path, dataset_id: str) -> Path:
    """Where the body is written to; its folder is made. Raises OSError."""
    folder = uploads / INCOMING
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{dataset_id}.zip"


def keep(uploads: Path, dataset_id: str) -> None:
    """Make the received archive, whole and synced as it is, the dataset's own. Raises OSError."""
    folder = uploads / dataset_id
    folder.mkdir()
    incoming_file(uploads, dataset_id).rename(folder / ARCHIVE)
    for changed in (folder, uploads):
        descriptor = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(uploads: Path, dataset_id: str) -> None:
    """All files of a dataset that is no more; what cannot be removed now is swept later."""
    shutil.rmtree(uploads / dataset_id, ignore_errors=True)


def sweep(db: Database, uploads: Path) -> list[str]:
    """Remove what is old and has no row; the names of what was removed. Raises DatabaseUnavailable."""
    old_before = time.time() - GRACE_SECONDS
    fetching = uploads / builtin_datasets.FOLDER / builtin_datasets.WORK
    begun = [*_entries(uploads / INCOMING), *_entries(fetching)]
    garbage = [path for path in begun if _changed_at(path) < old_before]
    old = [path for path in _entries(uploads) if path.name != INCOMING and _changed_at(path) < old_before]
    for start in range(0, len(old), 500):
        some = old[start : start + 500]
        recorded = dataset_store.recorded_ids(db, [path.name for path in some])
        garbage += [path for path in some if path.name not in recorded and path.name.startswith("ds_")]
    for path in garbage:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return [path.name for path in garbage]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _changed_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()
