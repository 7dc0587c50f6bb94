"""All routes, as one router that is served at the root and, unlisted, under /v1."""

from fastapi import APIRouter

from api.routes import catalogue, downloads, health, history, jobs, metrics, requests, workers

router = APIRouter()
for part in (jobs, requests, metrics, history, downloads, workers, catalogue, health):
    router.include_router(part.router)
