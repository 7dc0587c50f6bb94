"""A receiver of webhooks, as its author would write it: what arrives there, and what does not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.exceptions import WebhookVerificationError

from tests.integration.api.conftest import SPEC, installation
from tests.servers.waiting import until
from tests.stack import Stack


class Receiver(ThreadingHTTPServer):
    """Remembers what it was sent; answers each path as its last part says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def at(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(headers, body) for seen, headers, body in self.received if seen == path]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        status = int(self.path.rsplit("/", 1)[-1])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/secret/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        yield receiver
        receiver.shutdown()


def add(stack: Stack, url: str, *events: str) -> dict[str, Any]:
    answer = stack.http.post("/webhooks", json={"url": url, "events": list(events)})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def deliveries(stack: Stack, hook: dict[str, Any]) -> list[dict[str, Any]]:
    return stack.rows(f"/webhooks/{hook['id']}/deliveries")


def test_what_a_receiver_sees(tmp_path: Path, receiver: Receiver) -> None:
    with installation(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}") as stack:
        stack.start_api(PERDURE_WEBHOOK_ALLOW_HOSTS="127.0.0.1")
        hook = add(stack, f"{receiver.url}/hook/200", "job.created", "job.cancelled")
        gone = add(stack, f"{receiver.url}/gone/410", "job.created")
        moved = add(stack, f"{receiver.url}/moved/302", "job.created")
        job_id = stack.submit(SPEC)
        until(lambda: receiver.at("/hook/200"), seconds=30, what="the first message")
        stack.http.post(f"/jobs/{job_id}/cancel", json={})
        until(lambda: len(receiver.at("/hook/200")) == 2, seconds=30, what="the second")
        told = []
        for headers, body in receiver.at("/hook/200"):
            told.append(Webhook(hook["secret"]).verify(body, headers))
            with pytest.raises(WebhookVerificationError):
                Webhook(gone["secret"]).verify(body, headers)
        assert [message["type"] for message in told] == ["job.created", "job.cancelled"]
        assert {message["data"]["job_id"] for message in told} == {job_id}
        assert told[-1]["data"]["status"] == "cancelled"

        def settled(hook: dict[str, Any]) -> Any:
            found = deliveries(stack, hook)
            return found if all(row["attempts"] and row["last_attempt_at"] for row in found) else None

        assert [row["status"] for row in until(lambda: settled(hook), seconds=30)] == ["delivered"] * 2
        [refused] = until(lambda: settled(gone), seconds=30)
        assert (refused["status"], refused["last_status_code"]) == ("failed", 410)
        assert "410" in stack.http.get(f"/webhooks/{gone['id']}").json()["disabled_reason"]
        [redirected] = until(lambda: settled(moved), seconds=30)
        assert redirected["status"] == "pending" and "not followed" in redirected["last_error"]
        assert not receiver.at("/secret/200")

        again = deliveries(stack, hook)[0]
        path = f"/webhooks/{hook['id']}/deliveries/{again['id']}/redeliver"
        assert stack.http.post(path, json={}).status_code == 202
        until(lambda: len(receiver.at("/hook/200")) == 3, seconds=30, what="the message again")
        (_, before), (last, after) = receiver.at("/hook/200")[1:]
        assert (last["webhook-id"], json.loads(after)) == (again["id"], json.loads(before))


def test_private_addresses_are_refused_unless_allowed(on_sqlite: Stack, receiver: Receiver) -> None:
    answer = on_sqlite.http.post("/webhooks", json={"url": receiver.url + "/hook/200"})
    assert (answer.status_code, answer.json()["code"]) == (422, "webhook_url_invalid")
    assert "PERDURE_WEBHOOK_ALLOW_HOSTS" in answer.json()["detail"]
    assert on_sqlite.rows("/webhooks") == []
