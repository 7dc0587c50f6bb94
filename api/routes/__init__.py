"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    downloads,
    drills,
    health,
    history,
    jobs,
    keys,
    metrics,
    prometheus,
    requests,
    workers,
)

router = APIRouter()
for part in (
    jobs, requests, metrics, history, downloads, drills, workers, keys, catalogue, health, prometheus,
):  # fmt: skip
    router.include_router(part.router)
