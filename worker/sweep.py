"""Files that no row points at: what killed attempts left behind, cleared away by the job's holder alone."""

import re

import structlog

from models.errors import StorageFailed
from models.job_store import RecordedFiles
from models.storage import Storage

_log = structlog.get_logger()

#: Both parts are in the name of every file that an attempt writes; a frozen part has no step.
_ATTEMPT, _STEP = re.compile(r"\.attempt-(\d+)\."), re.compile(r"\.step-(\d+)\.")


def sweep(storage: Storage, job_id: str, recorded: RecordedFiles, *, before_attempt: int) -> list[str]:
    """Delete unrecorded files of attempts before this one, unfinished writes included; answer their keys.

    Those attempts can record nothing any more, since the fence has moved on. So it does no harm if the
    sweeper itself is frozen in here and goes on after its lease is lost. A file beyond the committed step
    stays: if ever the database were set back, it would be the furthest that the job got.
    """
    swept = []
    try:
        for folder in ("checkpoints", "frozen"):
            for key in list(storage.keys(f"jobs/{job_id}/{folder}")):
                attempt, step = _ATTEMPT.search(key), _STEP.search(key)
                if key in recorded.paths or attempt is None or int(attempt[1]) >= before_attempt:
                    continue
                if step is not None and int(step[1]) > recorded.committed_step:
                    continue
                storage.delete(key)
                swept.append(key)
    except (OSError, StorageFailed):
        _log.exception("sweep.failed", job_id=job_id)  # garbage costs space, never a job
    if swept:
        _log.info("swept", job_id=job_id, files=len(swept))
    return swept
