"""Sends what is due, from every API process; any of them may die at any moment."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import structlog

from models.database import Database
from models.errors import DatabaseUnavailable
from models.outages import Outages
from models.settings import Settings
from models.webhooks import store
from models.webhooks.messages import signed_headers
from models.webhooks.sending import Sender

_log = structlog.get_logger()

#: Receivers that hang hold up so many others at most, each for one time-out.
SENDERS = 4
FORGET_EVERY_SECONDS = 3600.0


class Deliverer:
    """Threads that send; they look for work every ``reconcile_seconds``, and at once while there is some."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._every_seconds = settings.reconcile_seconds
        self._sender = Sender(settings.webhook_allow_hosts)
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook")
        self._forget_at = 0.0
        self._outages = Outages("webhooks")

    def start(self) -> None:
        """Begin to look."""
        for _ in range(SENDERS):
            self._threads.submit(self._run)

    def stop(self) -> None:
        """Nothing is begun after this; what is under way ends by itself, or is sent again by others."""
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._sender.close()

    def send_next(self) -> bool:
        """Send one message that is due; whether there was one. Raises DatabaseUnavailable."""
        delivery = store.claim_delivery(self._db)
        if delivery is None:
            return False
        headers = signed_headers(delivery.secret, delivery.id, datetime.now(UTC), delivery.body)
        outcome = self._sender.post(delivery.url, headers, delivery.body.encode())
        store.record_outcome(self._db, delivery, outcome)
        _log.info(
            "webhook.sent", delivery_id=delivery.id, webhook_id=delivery.webhook_id, topic=delivery.topic,
            attempt=delivery.attempts, status_code=outcome.status_code, error=outcome.error,
        )  # fmt: skip
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._outlive(self.send_next):
                self._outlive(self._forget)
                self._stopping.wait(self._every_seconds)

    def _forget(self) -> bool:
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS
            store.forget_old(self._db)
        return False

    def _outlive(self, act: Callable[[], bool]) -> bool:
        try:
            found = act()
        except DatabaseUnavailable as error:
            self._outages.away(error)
        except Exception:  # noqa: BLE001 - the thread must outlive any surprise
            _log.exception("webhooks.failed")
        else:
            self._outages.over()
            return found
        return False
