"""The typed client.

>>> from perdure import Perdure
>>> client = Perdure()
>>> job = client.jobs.create({"dataset": {"path": "flowers4"}})
>>> client.jobs.wait(job.id).best
"""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from perdure.datasets import Datasets
from perdure.jobs import Jobs
from perdure.keys import Keys
from perdure.transport import Transport, json_of, raise_for_problem
from perdure.types import Page, Worker
from perdure.webhooks import Webhooks

DEFAULT_URL = "http://127.0.0.1:8000"


class Perdure:
    """A synchronous client of one Perdure server.

    ``url`` and ``api_key`` default to PERDURE_URL and PERDURE_API_KEY. Requests that meet a closed
    connection, a 429 or a 503 are sent again, with jitter, for up to ``retry_seconds``. Every failure
    is a PerdureClientError; an answer that is an error is a PerdureAPIError.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retry_seconds: float = 30.0,
        timeout_seconds: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            url or os.environ.get("PERDURE_URL") or DEFAULT_URL,
            api_key or os.environ.get("PERDURE_API_KEY"),
            retry_seconds=retry_seconds,
            timeout_seconds=timeout_seconds,
            transport=transport,
        )
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.keys = Keys(self._transport)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def workers(self) -> Iterator[Worker]:
        """The fleet: one entry per device slot."""
        after: str | int | None = None
        while True:
            page = Page.model_validate(self._transport.get("/workers", {"after": after}))
            for row in page.data:
                yield Worker.model_validate(row)
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def drain(self, worker_id: str) -> Worker:
        """Let a worker hand its job back and claim no more until ``enable``."""
        return self._ask(worker_id, "drain")

    def enable(self, worker_id: str) -> Worker:
        """Let a drained or quarantined worker claim again."""
        return self._ask(worker_id, "enable")

    def _ask(self, worker_id: str, verb: str) -> Worker:
        path = f"/workers/{quote(worker_id, safe='')}/{verb}"
        return Worker.model_validate(self._transport.post(path))

    def health(self) -> dict[str, Any]:
        """What /health/ready says, also when it says no (503). Raises PerdureAPIError for anything else."""
        response = self._transport.look("/health/ready")
        if response.status_code != 503:
            raise_for_problem(response)
        answer: dict[str, Any] = json_of(response)
        return answer

    def version(self) -> dict[str, Any]:
        """The versions of the server and of what it runs on."""
        answer: dict[str, Any] = self._transport.get("/version")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
