"""``python -m api``: the HTTP server, configured by the environment."""

import os
import signal
import socket
import sys

import structlog
import uvicorn

from api.app import create_app
from api.authentication import is_loopback
from api.protocol import HeaderDeadline
from api.server import Server
from models import key_store
from models.database import Database
from models.errors import DatabaseUnavailable, PerdureError
from models.logs import configure_logs
from models.migrate import schema_state
from models.settings import Settings, load_settings

#: Requests under way at a shutdown get this long.
GRACE_SECONDS = 10
_log = structlog.get_logger()


def main() -> int:
    """Exit status 2 for a configuration that must be changed first, 1 when the address is taken."""
    configure_logs(pid=os.getpid())
    # Uvicorn stops in order and then raises the signal again; to be stopped is exit status 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _serve()
    except KeyboardInterrupt:
        _log.info("api.stopped")
        return 0


def _serve() -> int:
    try:
        settings = load_settings()
        if not (is_loopback(settings.host) or settings.api_keys or _has_stored_key(settings)):
            return _say(
                f"Refusing to listen on {settings.host} without API keys: PERDURE_API_KEYS has none, and the "
                "database has none or does not answer. Make one with `perdure keys create`, or listen on "
                "127.0.0.1.",
                2,
            )
        app = create_app(settings)
    except PerdureError as error:
        return _say(error.message, 2)
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except OSError as error:
        return _say(f"Cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}.", 1)
    _log.info("api.listening", host=settings.host, port=listener.getsockname()[1], pid=os.getpid())
    config = uvicorn.Config(
        app,
        http=HeaderDeadline,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    def end_streams() -> None:
        app.state.services.streams.end_all()  # made by the lifespan, so not known before

    Server(config, on_shutdown=end_streams).run(sockets=[listener])
    return 0


def _has_stored_key(settings: Settings) -> bool:
    """To say so at once; beyond loopback the door is shut anyway, and without a key nobody would pass."""
    db = Database(settings.database_url)
    try:
        state = schema_state(db)
        return state == "behind" or (state == "current" and key_store.any_key(db))
    except DatabaseUnavailable:
        return False
    finally:
        db.close()


def _say(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)  # noqa: T201 - for a person, before there is a service
    return status


if __name__ == "__main__":
    sys.exit(main())
