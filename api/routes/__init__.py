"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    datasets,
    downloads,
    drills,
    health,
    history,
    jobs,
    metrics,
    prometheus,
    requests,
    workers,
)

router = APIRouter()
for part in (
    datasets, jobs, requests, metrics, history, downloads, drills, workers, catalogue, health, prometheus,
):  # fmt: skip
    router.include_router(part.router)
