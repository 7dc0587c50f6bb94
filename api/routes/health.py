"""Whether the process lives, whether it can serve, and which versions it is made of."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import ServicesDep
from api.openapi import problems
from api.problems import Refused
from models.migrate import schema_state
from models.version import VERSION

router = APIRouter(tags=["health"])

_BROKER_SECONDS = 0.5
_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "celery", "redis", "torch", "torchvision")


class Live(BaseModel):
    status: Literal["live"] = "live"


class Check(BaseModel):
    """One thing that the service depends on."""

    status: Literal["ok", "degraded"]
    detail: str | None = None


class Ready(BaseModel):
    """Able to serve; what is degraded makes some things late, but nothing wrong."""

    status: Literal["ready"] = "ready"
    degraded: list[str] = Field(description="Names of the checks that are not ok.")
    checks: dict[str, Check]


class Versions(BaseModel):
    version: str
    python: str
    packages: dict[str, str]


@router.get("/health/live")
async def live() -> Live:
    """200 as long as the process answers at all."""
    return Live()


@router.get("/health/ready", responses=problems())
def ready(services: ServicesDep) -> Ready:
    """200 while the database answers and has the present schema; 503 otherwise."""
    state = schema_state(services.db)
    if state != "current":
        raise Refused(
            503,
            f"schema_{state}",
            f"The database's schema is {state}; run `perdure migrate`.",
            headers={"Retry-After": "3"},
        )
    checks = {
        "database": Check(status="ok"),
        "migration": Check(status="ok"),
        "broker": _broker(services.doorbell.ping(_BROKER_SECONDS)),
        "storage": _storage(services.store_health.is_good()),
    }
    return Ready(degraded=[name for name, check in checks.items() if check.status != "ok"], checks=checks)


@router.get("/version", responses=problems())
def versions() -> Versions:
    """The service's version and those that decide how it behaves."""
    return _versions()


@cache
def _versions() -> Versions:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return Versions(version=VERSION, python=platform.python_version(), packages=found)


def _broker(answers: bool) -> Check:
    if answers:
        return Check(status="ok")
    return Check(
        status="degraded", detail="The broker does not answer; jobs are accepted and start a little later."
    )


def _storage(takes_writes: bool) -> Check:
    if takes_writes:
        return Check(status="ok")
    return Check(status="degraded", detail="The checkpoint store cannot be written to.")
