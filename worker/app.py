"""The Celery side of a worker: one task, which answers the doorbell."""

from celery import Celery

from models.queue import TASK_NAME, celery_app
from worker.supervisor import Supervisor


def worker_app(broker_url: str, supervisor: Supervisor) -> Celery:
    """An app whose only task lets the supervisor work until nothing is left to claim."""
    app = celery_app(broker_url)

    @app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
    def doorbell() -> None:
        supervisor.work_until_idle()

    return app
