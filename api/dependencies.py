"""What routes ask for by type. All but whose a job is is ready-made, and costs no hop to another thread."""

import re
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BeforeValidator

from api.caller import Caller
from api.clearing import Clearing
from api.ids import (
    AnyJob,
    CheckpointIdValue,
    ChoiceValue,
    DatasetIdValue,
    JobIdValue,
    Judged,
    KeyIdValue,
    one,
)
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
_NO_JOB = "There is no job with that id; `GET /jobs` lists those that exist."


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


async def _any_job_id(job_id: AnyJob) -> str:
    return job_id


#: Perhaps of a job that is gone: for what asks by itself whose it is, or was.
AnyJobId = Annotated[str, Depends(_any_job_id)]


def _job_id(job_id: AnyJobId, db: DatabaseDep, caller: CallerDep) -> str:
    # Another tenant's job is as if it were not there, whatever is asked of it.
    if job_store.tenant_of_job(db, job_id) != caller.tenant_id:
        raise NotFound(_NO_JOB)
    return job_id


#: How many jobs are compared at once: more would not fit beside each other on any page.
MAX_COMPARED = 6


def _are_comparable(value: str) -> str:
    ids = value.split(",")
    if len(set(ids)) < len(ids):
        raise ValueError(f"Give 2 to {MAX_COMPARED} different ids, with commas between them.")
    return value


_SEVERAL = Judged(
    f"{one('job')}(,{one('job')}){{1,{MAX_COMPARED - 1}}}",
    f"Give 2 to {MAX_COMPARED} different ids, with commas between them.",
)


def _job_ids(
    db: DatabaseDep,
    caller: CallerDep,
    ids: Annotated[
        str,
        Query(description=f"2 to {MAX_COMPARED} jobs, as `ids=job_a,job_b`.", max_length=500),
        _SEVERAL,
        AfterValidator(_are_comparable),
    ],
) -> list[str]:
    # Each by the check that an id in a path passes: whose job it may not be, it is not here either.
    return [_job_id(job_id, db, caller) for job_id in ids.split(",")]


#: A job of the caller's; what a route does with it need not ask again whose it is.
JobId = Annotated[str, Depends(_job_id)]
JobIds = Annotated[list[str], Depends(_job_ids)]


def _in_digits(value: object) -> object:
    # What Python takes for a number beside that, 1_0 for 10, nobody means.
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]+", value):
        raise ValueError("This is not a whole number.")
    return value


#: Of a whole number as a parameter; behind its bounds, which the document would not have otherwise.
IN_DIGITS = BeforeValidator(_in_digits)

_LAST_ID = Query(description="The `last_id` of the page before.")
Limit = Annotated[int, Query(ge=1, le=100, description="How many rows at most."), IN_DIGITS]
AfterNumber = Annotated[
    int,
    Query(ge=0, le=MAX_INTEGER, description="The `last_id` of the page before.", examples=[0]),
    IN_DIGITS,
]
AfterJob = Annotated[JobIdValue | None, _LAST_ID]
AfterDataset = Annotated[DatasetIdValue | None, _LAST_ID]
AfterKey = Annotated[KeyIdValue | None, _LAST_ID]
AfterCheckpoint = Annotated[CheckpointIdValue | None, _LAST_ID]
AfterText = Annotated[Text | None, Query(max_length=64, description="The `last_id` of the page before.")]
Choice = Annotated[ChoiceValue, Query(description="`last`, `best`, or the id of a checkpoint.")]
