"""`perdure webhooks`: what people read of webhooks and their messages, and what is sent for it."""

import json
from typing import Any

import httpx2

from tests.unit.perdure.command_line import Run

HOOK = {"id": "wh_1", "url": "https://a.example/", "events": ["job.failed"], "description": ""}
MESSAGE = {
    "id": "msg_1", "webhook_id": "wh_1", "job_id": "job_1", "event": "job.failed", "status": "failed",
    "attempts": 10, "last_status_code": 500, "last_error": "It answered 500.",
}  # fmt: skip


def test_the_secret_is_shown_once(run: Run, server: Any) -> None:
    server.routes["POST /webhooks"] = lambda _: httpx2.Response(201, json=HOOK | {"secret": "whsec_abc"})
    code, out, _ = run("webhooks", "add", "https://a.example/", "--event", "job.failed")
    assert code == 0
    assert server.bodies()[0] == {"url": "https://a.example/", "description": "", "events": ["job.failed"]}
    assert "whsec_abc" in out and "shown this once" in out


def test_what_was_told_and_what_became_of_it(run: Run, server: Any) -> None:
    server.routes["GET /webhooks"] = server.page([HOOK | {"disabled_reason": "It wants no more."}])
    server.routes["GET /webhooks/wh_1/deliveries"] = server.page([MESSAGE])
    code, out, _ = run("webhooks", "list", "--json")
    assert code == 0 and json.loads(out)[0]["disabled_reason"] == "It wants no more."
    code, out, _ = run("webhooks", "deliveries", "wh_1")
    assert code == 0
    for words in ("msg_1", "failed", "10"):
        assert words in out


def test_removing_and_sending_again(run: Run, server: Any) -> None:
    server.routes["DELETE /webhooks/wh_1"] = lambda _: httpx2.Response(204)
    path = "POST /webhooks/wh_1/deliveries/msg_1/redeliver"
    server.routes[path] = lambda _: httpx2.Response(202, json=MESSAGE | {"status": "pending"})
    assert run("webhooks", "remove", "wh_1")[0] == 0
    code, out, _ = run("webhooks", "redeliver", "wh_1", "msg_1")
    assert code == 0 and "sent again" in out
    code, _, err = run("webhooks", "remove", "wh_2")
    assert code == 3 and "nothing here" in err
