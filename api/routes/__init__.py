"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    downloads,
    drills,
    health,
    history,
    jobs,
    metrics,
    predictions,
    prometheus,
    requests,
    workers,
)

router = APIRouter()
for part in (
    jobs, requests, metrics, history, downloads, predictions, drills, workers, catalogue, health,
    prometheus,
):  # fmt: skip
    router.include_router(part.router)
