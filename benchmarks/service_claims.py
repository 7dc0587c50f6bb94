"""What a claim takes, as a worker makes it."""

import time

from models import job_store
from models.database import Database
from models.host import Owner, ProcessId
from models.settings import Settings

#: Left out: the connection is opened, the statement is prepared.
WARM_UP = 20


def time_claims(url: str, device: str, number: int) -> list[float]:
    """Seconds of so many claims by a worker of this device, one after another."""
    db = Database(url)
    lease_seconds = Settings.model_fields["lease_seconds"].default
    owner = Owner("wrk_1", "host", "boot", "pid:[1]", ProcessId(1, 1.0))
    seconds = []
    try:
        for _ in range(WARM_UP + number):
            began = time.perf_counter()
            claim = job_store.claim(db, owner, device, f"{device}:one", lease_seconds)
            seconds.append(time.perf_counter() - began)
            if claim is None or claim.job.device_class != device:
                raise RuntimeError(f"no job for {device} was claimed")
    finally:
        db.close()
    return seconds[WARM_UP:]
