"""Clients that follow a job, each in a thread of its own, and what they got."""

import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from perdure.client import Perdure
from perdure.stream import StreamEvent
from perdure.types import JobStatus
from tests.servers.waiting import until


class Audience:
    """So many SDK clients of one job, with what each has heard so far."""

    def __init__(self, url: str, job_id: str, size: int) -> None:
        self.heard: list[list[StreamEvent]] = [[] for _ in range(size)]
        self.ended: list[bool] = [False] * size
        self.breaks = [0] * size
        self._clients = ExitStack()
        self._job_id, self._url = job_id, url
        self._threads = [
            threading.Thread(target=self._listen, args=(number,), daemon=True) for number in range(size)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()

    def _listen(self, number: int) -> None:
        client = self._clients.enter_context(Perdure(self._url, api_key="", retry_seconds=60.0))

        def broke(reason: str) -> None:
            self.breaks[number] += 1

        for event in client.jobs.stream(self._job_id, after=0, patience_seconds=120.0, on_away=broke):
            self.heard[number].append(event)
        self.ended[number] = True

    def has(self, last: int, seconds: float = 60.0) -> None:
        """Everybody has heard so far."""
        until(lambda: all(len(told) >= last for told in self.heard), seconds=seconds, what=f"line {last}")

    def has_ended(self, seconds: float = 120.0) -> None:
        """Everybody's stream ended by itself."""
        until(lambda: all(self.ended), seconds=seconds, what="the end of every stream", every=0.05)

    def check(self, last: int) -> None:
        """Each heard every line once, in order, and all heard the same."""
        for told in self.heard:
            assert [event.id for event in told] == list(range(1, last + 1))
            assert told == self.heard[0]
        final = self.heard[0][-1].data
        assert isinstance(final, JobStatus) and final.final
