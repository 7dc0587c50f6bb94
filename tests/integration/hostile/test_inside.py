"""Whoever reaches the broker can say that there is work, and nothing else."""

import os
from pathlib import Path
from typing import Any

import redis
from kombu import Connection

from models.queue import TASK_NAME, celery_app, queue_name
from tests.images import draw_dataset
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import until

QUEUE = queue_name("light")


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, place: Path) -> None:
        self._place = str(place)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._place,)


def test_messages_from_strangers_are_refused_and_the_worker_goes_on(
    make_stack: Any, valkey: ValkeyServer, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    app = celery_app(valkey.url)
    # Before anybody listens, so that they come first.
    app.send_task(TASK_NAME, args=[Canary(canary)], serializer="pickle", queue=QUEUE)
    app.send_task(TASK_NAME, args=[1, "x"], queue=QUEUE)
    app.send_task("os.system", args=[f"mkdir {canary}"], queue=QUEUE)
    app.send_task("celery.backend_cleanup", queue=QUEUE)
    with Connection(valkey.url) as connection, connection.Producer() as producer:
        for body, kind in ((b"\x80\x04.", "application/x-python-serialize"), (b"{", "application/json"),
                           (b"- !!python/object/apply:os.mkdir [x]", "application/x-yaml")):  # fmt: skip
            producer.publish(
                body, routing_key=QUEUE, content_type=kind, content_encoding="utf-8", serializer=None
            )
    with make_stack("sqlite") as stack, redis.Redis(unix_socket_path=str(valkey.socket_path)) as broker:
        draw_dataset(stack.home / "data/shapes", per_class=2)
        stack.start_api()
        worker = stack.start_worker(arguments=["--light"])
        until(lambda: broker.llen(QUEUE) == 0, seconds=60, what="the messages to be taken")
        dataset = stack.http.post("/datasets", json={"path": "shapes"}).json()["id"]
        checked = until(
            lambda: _settled(stack.http.get(f"/datasets/{dataset}").json()), seconds=60, what="a check"
        )
        assert checked["status"] == "ready", checked
        assert worker.poll() is None and not canary.exists()
        log = stack.log_of(worker)
        assert "Refusing to deserialize" in log or "ContentDisallowed" in log


def _settled(body: dict[str, Any]) -> dict[str, Any] | None:
    return body if body["status"] != "checking" else None
