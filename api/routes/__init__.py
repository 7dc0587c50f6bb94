"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    comparisons,
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
# Comparisons first: `compare` is the id of no job.
for part in (
    comparisons, jobs, requests, metrics, history, downloads, predictions, drills, workers, catalogue, health,
    prometheus,
):  # fmt: skip
    router.include_router(part.router)
