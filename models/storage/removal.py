"""Everything that a job left in the store."""

import contextlib
from pathlib import Path

from models.storage.local import LocalStorage
from models.storage.protocol import Storage


def remove_job_files(storage: Storage, job_id: str) -> int:
    """Delete what lies below the job's prefix, unfinished writes included; how many objects that were.

    Raises StorageFailed, or OSError from a folder.
    """
    prefix = f"jobs/{job_id}"
    keys = list(storage.keys(prefix))
    for key in keys:
        storage.delete(key)
    if isinstance(storage, LocalStorage):
        root = storage.local_path(prefix)
        for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
            _remove_if_empty(folder)
        _remove_if_empty(root)
    return len(keys)


def _remove_if_empty(folder: Path) -> None:
    # Somebody may be writing into it at this moment: then it is not empty.
    with contextlib.suppress(OSError):
        folder.rmdir()
