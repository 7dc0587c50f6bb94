"""The application: what it is made of, and in which order that starts and stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from api import openapi, problems, reference
from api.access import RequestLog
from api.authentication import Authentication, is_loopback
from api.clearing import Clearing
from api.dependencies import Services
from api.head import Head
from api.known_keys import KnownKeys
from api.predicting import Predictor
from api.quotas import StoreQuota
from api.routes import router
from api.store_health import StoreHealth
from api.streams import Streams
from api.whole_files import WholeFiles
from models.database import Database
from models.queue import Doorbell
from models.reconciler import Reconciler
from models.settings import Settings
from models.storage import storage_from_url
from models.version import VERSION
from models.webhooks.deliverer import Deliverer

#: Requests at work at once. Each holds one connection at most, so the pool has as many and none waits.
THREADS = 32


def create_app(settings: Settings) -> FastAPI:
    """The service for these settings; nothing is connected before its lifespan begins. Raises SpecInvalid."""
    storage = storage_from_url(settings.storage_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        db = Database(settings.database_url, pool_size=THREADS)
        doorbell = Doorbell(settings.broker_url)
        reconciler = Reconciler(db, settings, on_claimable=doorbell.ring)
        deliverer = Deliverer(db, settings)
        whole_files = WholeFiles(settings.home / "cache/materialised", settings.storage_url)
        clearing = Clearing(db, storage)
        streams = Streams(db)
        predictor = Predictor(settings.storage_url)
        known_keys = KnownKeys(db)
        app.state.services = Services(
            settings, db, storage, StoreHealth(storage), doorbell, whole_files, clearing, streams, predictor,
            known_keys, StoreQuota(db, settings.max_stored_bytes),
        )  # fmt: skip
        reconciler.start()
        clearing.start()
        deliverer.start()
        try:
            yield
        finally:
            # What calls others stops before what it calls.
            streams.end_all()
            await anyio.to_thread.run_sync(streams.close)
            await anyio.to_thread.run_sync(clearing.stop)
            await anyio.to_thread.run_sync(reconciler.stop)
            deliverer.stop()
            await anyio.to_thread.run_sync(predictor.close)
            await anyio.to_thread.run_sync(whole_files.close)
            await anyio.to_thread.run_sync(known_keys.close)
            doorbell.close()
            db.close()

    app = FastAPI(
        title="Perdure",
        version=VERSION,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        # A redirect would be built from the Host header, which anybody can write.
        redirect_slashes=False,
        # What FastAPI serves there fetches its scripts from the web.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    app.include_router(router)
    app.include_router(router, prefix="/v1", include_in_schema=False)
    problems.install(app)
    openapi.install(app, needs_key=bool(settings.api_keys) or not is_loopback(settings.host))
    reference.install(app)
    app.add_middleware(Head)
    app.add_middleware(Authentication, settings=settings)
    app.add_middleware(RequestLog)  # added last, so the outermost
    return app
