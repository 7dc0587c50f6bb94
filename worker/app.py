"""The Celery side of a worker: one task, which answers the doorbell."""

from celery import Celery

from models.queue import TASK_NAME, celery_app
from worker.presence import Works


def worker_app(broker_url: str, works: Works) -> Celery:
    """An app whose only task lets a worker work until nothing is left to claim."""
    app = celery_app(broker_url)

    @app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
    def doorbell() -> None:
        works.work_until_idle()

    return app
