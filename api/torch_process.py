"""How this service starts the processes that have torch: as modules of ``worker``, never imported."""

import os
import sys
from pathlib import Path
from typing import Any

from models.job_store.fence import JobRow

#: Where `worker` lies.
ROOT = Path(__file__).resolve().parent.parent


def command_of(module: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module)


def environment() -> dict[str, str]:
    """That of this process without its settings: neither database nor keys are any business of theirs."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    others = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    # One thread: they must not take cores from what trains, and libraries read these as they load.
    return others | {
        "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip


def recorded_files(checkpoint: JobRow) -> dict[str, Any]:
    """What a checkpoint's row says of its files, as those processes are told it."""
    row = checkpoint
    frozen = {"path": row.frozen_path, "sha256": row.frozen_sha256, "size_bytes": row.frozen_size_bytes}
    return {
        "checkpoint": {"path": row.path, "sha256": row.sha256, "size_bytes": row.size_bytes},
        "frozen": None if row.frozen_path is None else frozen,
    }
