"""What routes ask for by type. All but whose a job is is ready-made, and costs no hop to another thread."""

import re
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from api.caller import Caller
from api.known_keys import KnownKeys
from api.quotas import StoreQuota
from api.store_health import StoreHealth
from api.whole_files import WholeFiles
from models import job_store
from models.database import Database
from models.errors import NotFound
from models.job_spec import Text
from models.settings import Settings
from models.storage import Storage

#: The largest number that every database's INTEGER holds.
MAX_INTEGER = 2**31 - 1
_JOB_ID = re.compile(r"job_[0-9A-Za-z-]{1,60}")
_CHECKPOINT_ID = re.compile(r"ckpt_[0-9A-Za-z-]{1,59}")
_KEY_ID = re.compile(r"key_[0-9A-Za-z-]{1,60}")
_WORKER_ID = re.compile(r"wrk_[0-9A-Za-z-]{1,60}")


class Bell(Protocol):
    """As much of :class:`models.queue.Doorbell` as routes use."""

    def ring(self, device_class: str) -> None:
        """Say that there is work for a device class; returns at once."""

    def ping(self, timeout: float = 1.0) -> bool:
        """Whether the broker answers."""


@dataclass(frozen=True)
class Services:
    """What the process has for all requests; made and closed by the app's lifespan."""

    settings: Settings
    db: Database
    storage: Storage
    store_health: StoreHealth
    doorbell: Bell
    whole_files: WholeFiles
    known_keys: KnownKeys
    store_quota: StoreQuota


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _db(services: ServicesDep) -> Database:
    return services.db


DatabaseDep = Annotated[Database, Depends(_db)]


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


def _job_id(job_id: str, db: DatabaseDep, caller: CallerDep) -> str:
    # Judged here, since not every database takes any garbage as a value to compare with.
    is_id = _JOB_ID.fullmatch(job_id) is not None
    # Another tenant's job is as if it were not there, whatever is asked of it.
    if not is_id or job_store.tenant_of_job(db, job_id) != caller.tenant_id:
        raise NotFound("There is no job with that id; `GET /jobs` lists those that exist.")
    return job_id


async def _checkpoint_id(checkpoint_id: str) -> str:
    if not _CHECKPOINT_ID.fullmatch(checkpoint_id):
        raise NotFound(
            "There is no checkpoint with that id; the job's list of checkpoints has those that exist."
        )
    return checkpoint_id


async def _key_id(key_id: str) -> str:
    if not _KEY_ID.fullmatch(key_id):
        raise NotFound("There is no key with that id; `GET /keys` lists those that exist.")
    return key_id


async def _worker_id(worker_id: str) -> str:
    if not _WORKER_ID.fullmatch(worker_id):
        raise NotFound("There is no worker with that id; `GET /workers` lists those that exist.")
    return worker_id


#: A job of the caller's; what a route does with it need not ask again whose it is.
JobId = Annotated[str, Depends(_job_id)]
KeyId = Annotated[str, Depends(_key_id)]
WorkerId = Annotated[str, Depends(_worker_id)]
CheckpointId = Annotated[str, Depends(_checkpoint_id)]


def _is_job_id(value: str) -> str:
    if not _JOB_ID.fullmatch(value):
        raise ValueError("This is not the id of a job.")
    return value


def _is_checkpoint_id(value: str) -> str:
    if not _CHECKPOINT_ID.fullmatch(value):
        raise ValueError("This is not the id of a checkpoint.")
    return value


def _is_choice(value: str) -> str:
    return value if value in {"last", "best"} else _is_checkpoint_id(value)


def _is_key_id(value: str) -> str:
    if not _KEY_ID.fullmatch(value):
        raise ValueError("This is not the id of a key.")
    return value


Limit = Annotated[int, Query(ge=1, le=100, description="How many rows at most.")]
AfterNumber = Annotated[
    int, Query(ge=0, le=MAX_INTEGER, description="The `last_id` of the page before.", examples=[0])
]
AfterJob = Annotated[
    str | None,
    Query(description="The `last_id` of the page before."),
    AfterValidator(lambda v: v and _is_job_id(v)),
]
AfterKey = Annotated[
    str | None,
    Query(description="The `last_id` of the page before."),
    AfterValidator(lambda v: v and _is_key_id(v)),
]
AfterCheckpoint = Annotated[
    str | None,
    Query(description="The `last_id` of the page before."),
    AfterValidator(lambda v: v and _is_checkpoint_id(v)),
]
AfterText = Annotated[Text | None, Query(max_length=64, description="The `last_id` of the page before.")]
Choice = Annotated[
    str, Query(description="`last`, `best`, or the id of a checkpoint."), AfterValidator(_is_choice)
]
