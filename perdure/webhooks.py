"""``client.webhooks``: who is told what happens to jobs."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from perdure.pages import rows
from perdure.transport import Transport
from perdure.types import Delivery, Webhook


class Webhooks:
    """The webhooks of one server. Lists are iterators that fetch page after page as they are read."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, url: str, events: Sequence[str] | None = None, *, description: str = "") -> Webhook:
        """Tell ``url`` what happens to jobs from now on; by default when one is finished.

        The answer alone has the ``secret`` that receivers verify signatures with.
        """
        body: dict[str, Any] = {"url": url, "description": description}
        if events is not None:
            body["events"] = list(events)
        return Webhook.model_validate(self._transport.post("/webhooks", body))

    def get(self, webhook_id: str) -> Webhook:
        """One webhook. Raises NotFoundError."""
        return Webhook.model_validate(self._transport.get(_path(webhook_id)))

    def list(self) -> Iterator[Webhook]:
        """Oldest first."""
        for row in rows(self._transport, "/webhooks", {}, page_size=100):
            yield Webhook.model_validate(row)

    def delete(self, webhook_id: str) -> None:
        """Tell it nothing any more; its messages go with it. Raises NotFoundError."""
        self._transport.request("DELETE", _path(webhook_id))

    def deliveries(self, webhook_id: str) -> Iterator[Delivery]:
        """Its messages, the newest first. Raises NotFoundError."""
        for row in rows(self._transport, _path(webhook_id, "deliveries"), {}, page_size=100):
            yield Delivery.model_validate(row)

    def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a message again. Raises NotFoundError."""
        path = _path(webhook_id, "deliveries", delivery_id, "redeliver")
        return Delivery.model_validate(self._transport.post(path))


def _path(webhook_id: str, *parts: str) -> str:
    return "/".join(["/webhooks", *(quote(part, safe="") for part in (webhook_id, *parts))])
