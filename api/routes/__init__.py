"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import (
    catalogue,
    downloads,
    drills,
    editing,
    health,
    history,
    jobs,
    metrics,
    prometheus,
    requests,
    stream,
    webhooks,
    workers,
)

router = APIRouter()
for part in (
    jobs, editing, requests, metrics, history, stream, downloads, drills, workers, webhooks, catalogue,
    health, prometheus,
):  # fmt: skip
    router.include_router(part.router)
