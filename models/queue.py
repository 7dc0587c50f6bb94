"""The Celery app and the doorbell: a message says "there is work" and carries nothing else.

Losing, repeating or reordering bells harms nothing, since the claim decides who works on what. So
messages are acknowledged early, there is no result backend, and nobody waits for a bell to be sent.
"""

import threading

import structlog
from celery import Celery

from models.settings import Settings

TASK_NAME = "perdure.doorbell"
#: A broker that is away is tried so often, not once for each job.
AWAY_SECONDS = 1.0
_log = structlog.get_logger()


def queue_name(device_class: str) -> str:
    """``any``, ``cpu``, ``cuda`` or ``light`` as a queue."""
    return f"perdure.{device_class}"


def celery_app(broker_url: str) -> Celery:
    """The app of workers and of senders alike."""
    app = Celery("perdure", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # A busy worker must not hoard the bell that an idle one could answer.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


class Doorbell:
    """Rings from a thread of its own, at most one bell under way for each class, without retries."""

    def __init__(self, broker_url: str) -> None:
        self._app = celery_app(broker_url)
        self._waiting: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="doorbell", daemon=True).start()

    def ring(self, device_class: str) -> None:
        """Returns at once. A bell that cannot be sent is forgotten: reconcilers look for work themselves."""
        with self._changed:
            self._waiting.add(device_class)
            self._changed.notify()

    def ping(self, timeout: float = 1.0) -> bool:
        """Whether the broker answers."""
        try:
            with self._app.connection_for_write(connect_timeout=timeout) as connection:
                connection.ensure_connection(max_retries=0, timeout=timeout)
        except Exception:  # noqa: BLE001 - kombu has no common class for what may go wrong here
            return False
        return True

    def close(self) -> None:
        """No bell is sent after this."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                device_class = self._waiting.pop()
            try:
                self._app.send_task(
                    TASK_NAME, queue=queue_name(device_class), retry=False, ignore_result=True
                )
            except Exception as error:  # noqa: BLE001 - see `ping`
                _log.warning("doorbell.not_sent", device_class=device_class, error=str(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, AWAY_SECONDS)


def doorbell_of(settings: Settings) -> Doorbell:
    """The doorbell of this installation."""
    return Doorbell(settings.broker_url)
