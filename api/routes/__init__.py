"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    comparisons,
    datasets,
    downloads,
    drills,
    editing,
    health,
    history,
    jobs,
    keys,
    metrics,
    predictions,
    prometheus,
    requests,
    stream,
    webhooks,
    workers,
)

router = APIRouter()
# Comparisons first: `compare` is the id of no job.
for part in (
    datasets, comparisons, jobs, editing, requests, metrics, history, stream, downloads, predictions, drills,
    workers, webhooks, keys, catalogue, health, prometheus,
):  # fmt: skip
    router.include_router(part.router)
