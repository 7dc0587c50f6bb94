"""What routes ask for by type. All but whose a job is is ready-made, and costs no hop to another thread."""

import re
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from api.caller import Caller
from api.clearing import Clearing
from api.known_keys import KnownKeys
from api.predicting import Predictor
from api.quotas import StoreQuota
from api.store_health import StoreHealth
from api.streams import Streams
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
_NO_JOB = "There is no job with that id; `GET /jobs` lists those that exist."
_CHECKPOINT_ID = re.compile(r"ckpt_[0-9A-Za-z-]{1,59}")
_WEBHOOK_ID = re.compile(r"wh_[0-9A-Za-z-]{1,61}")
_DELIVERY_ID = re.compile(r"msg_[0-9A-Za-z-]{1,60}")
_DATASET_ID = re.compile(r"ds_[0-9A-Za-z-]{1,60}")
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
    clearing: Clearing
    streams: Streams
    predictor: Predictor
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


def _well_formed(job_id: str) -> str:
    # Judged here, since not every database takes any garbage as a value to compare with.
    if not _JOB_ID.fullmatch(job_id):
        raise NotFound(_NO_JOB)
    return job_id


async def _any_job_id(job_id: str) -> str:
    return _well_formed(job_id)


#: Perhaps of a job that is gone: for what asks by itself whose it is, or was.
AnyJobId = Annotated[str, Depends(_any_job_id)]


def _job_id(job_id: AnyJobId, db: DatabaseDep, caller: CallerDep) -> str:
    # Another tenant's job is as if it were not there, whatever is asked of it.
    if job_store.tenant_of_job(db, job_id) != caller.tenant_id:
        raise NotFound(_NO_JOB)
    return job_id


async def _checkpoint_id(checkpoint_id: str) -> str:
    if checkpoint_id not in {"last", "best"} and not _CHECKPOINT_ID.fullmatch(checkpoint_id):
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


async def _dataset_id(dataset_id: str) -> str:
    if not _DATASET_ID.fullmatch(dataset_id):
        raise NotFound("There is no dataset with that id; `GET /datasets` lists those that exist.")
    return dataset_id


async def _webhook_id(webhook_id: str) -> str:
    if not _WEBHOOK_ID.fullmatch(webhook_id):
        raise NotFound("There is no webhook with that id; `GET /webhooks` lists those that exist.")
    return webhook_id


async def _delivery_id(delivery_id: str) -> str:
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise NotFound("There is no delivery with that id; the webhook's list has those that exist.")
    return delivery_id


DeliveryId = Annotated[str, Depends(_delivery_id)]
WebhookId = Annotated[str, Depends(_webhook_id)]
#: How many jobs are compared at once: more would not fit beside each other on any page.
MAX_COMPARED = 6


def _are_comparable(value: str) -> str:
    ids = value.split(",")
    if not 2 <= len(ids) <= MAX_COMPARED or len(set(ids)) < len(ids) or "" in ids:
        raise ValueError(f"Give 2 to {MAX_COMPARED} different ids, with commas between them.")
    return value


def _job_ids(
    db: DatabaseDep,
    caller: CallerDep,
    ids: Annotated[
        str,
        Query(description=f"2 to {MAX_COMPARED} jobs, as `ids=job_a,job_b`.", max_length=500),
        AfterValidator(_are_comparable),
    ],
) -> list[str]:
    # Each by the check that an id in a path passes: whose job it may not be, it is not here either.
    return [_job_id(_well_formed(job_id), db, caller) for job_id in ids.split(",")]


#: A job of the caller's; what a route does with it need not ask again whose it is.
JobId = Annotated[str, Depends(_job_id)]
JobIds = Annotated[list[str], Depends(_job_ids)]
DatasetId = Annotated[str, Depends(_dataset_id)]
KeyId = Annotated[str, Depends(_key_id)]
WorkerId = Annotated[str, Depends(_worker_id)]
CheckpointId = Annotated[str, Depends(_checkpoint_id)]


def _is_job_id(value: str) -> str:
    if not _JOB_ID.fullmatch(value):
        raise ValueError("This is not the id of a job.")
    return value


def _is_dataset_id(value: str) -> str:
    if not _DATASET_ID.fullmatch(value):
        raise ValueError("This is not the id of a dataset.")
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
AfterDataset = Annotated[
    str | None,
    Query(description="The `last_id` of the page before."),
    AfterValidator(lambda v: v and _is_dataset_id(v)),
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
