"""Fault 10: cut off from the broker, running jobs go on, new ones start, and bells are heard again."""

from collections.abc import Iterator
from typing import Any

import pytest

from models.queue import TASK_NAME, celery_app, queue_name
from tests.images import draw_dataset
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import until
from tests.specs import full_fine_tune

RECONCILE_SECONDS = 1.0
#: A claim, a trainer from the warm zygote, its first message, on a machine that is busy.
SLACK_SECONDS = 5.0


@pytest.fixture
def broker() -> Iterator[ValkeyServer]:
    with ValkeyServer(tcp=True) as server:
        yield server


@pytest.mark.parametrize("how", ["blackhole", "refuse"])
def test_a_worker_cut_off_from_the_broker(how: str, make_stack: Any, broker: ValkeyServer) -> None:
    with Proxy(broker.port) as proxy:
        stack = make_stack(
            "postgresql",
            PERDURE_BROKER_URL=f"redis://127.0.0.1:{proxy.port}/0",
            PERDURE_RECONCILE_SECONDS=str(RECONCILE_SECONDS),
        )
        with stack:
            draw_dataset(stack.home / "data/shapes", per_class=50)
            stack.start_api()
            stack.start_worker()
            stack.start_worker()
            until(lambda: len(stack.rows("/workers")) == 2, seconds=30, what="two workers")
            running = stack.submit(full_fine_tune(6))
            stack.await_status(running, "running")

            getattr(proxy, how)()
            submitted = stack.submit(full_fine_tune(1))
            stack.await_status(
                submitted, "running", "succeeded", seconds=1.25 * RECONCILE_SECONDS + SLACK_SECONDS
            )
            stack.await_status(submitted, "succeeded")
            assert stack.await_status(running, "succeeded")["attempt"] == 1

            proxy.heal(cut=how == "blackhole")
            # The bell takes a way of its own, so that only a worker that listens again can answer it.
            celery_app(broker.url).send_task(TASK_NAME, queue=queue_name("any"), retry=False)
            until(
                lambda: broker.command("LLEN", queue_name("any")) == b":0",
                seconds=60, what="a worker to take a bell again",
            )  # fmt: skip
            stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")
