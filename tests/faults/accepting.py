"""Accepts jobs into a SQLite database for as long as it lives; says of each, once it is accepted, that it is.

Run as ``python -m tests.faults.accepting FOLDER``. A line is ``recorded ID 0 -``.
"""

import os
import sys
from pathlib import Path

from models import job_store, migrate
from models.database import Database
from models.job_spec import JobSpec


def main(folder: str) -> None:
    db = Database(f"sqlite:///{Path(folder) / 'perdure.db'}")
    migrate.upgrade(db)
    spec = JobSpec.model_validate({"dataset": {"path": "shapes"}})
    while True:
        os.write(1, f"recorded {job_store.create_job(db, spec).job.id} 0 -\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
