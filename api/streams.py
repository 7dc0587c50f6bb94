"""The streams that are open: where each one begins, how it goes on, and how all of them end.

An open stream is a response that does not end by itself, and a server that is to stop waits for it. So
streams are told to end, and a client that takes nothing any more is cut off.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Send

from api.stream_frames import frames
from api.tailer import Tailer
from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable

#: Without anything to tell, a comment goes out so often: proxies, and clients, give silence up.
KEEPALIVE_SECONDS = 15.0
#: A client that takes nothing for so long is gone, whatever its connection says.
SEND_SECONDS = 30.0
#: When the process is to stop, the last bytes have to be taken within this time.
LAST_SECONDS = 0.5
#: Clients that lost the process at one moment come back at different ones.
RETRY_MILLISECONDS = (1000, 3000)
#: Lines that are read at once for one client.
PAGE = 200
#: Readers of old lines at once: they must leave threads and connections to everybody else.
_READERS = 4
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Opening:
    """How a stream begins."""

    written: bytes
    after: int  #: the number of its last line
    last: int  #: the job's last number at that time
    is_over: bool  #: the job is finished, and this is all


class Streams:
    """What the streams of this process share. Made and closed in its event loop."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.tailer = Tailer(db)
        self.readers = CapacityLimiter(_READERS)
        self.is_stopping = False
        self._open: dict[object, Callable[[], object]] = {}

    def opened(self, stream: object, abort: Callable[[], object]) -> None:
        """``abort`` breaks its connection."""
        self._open[stream] = abort

    def closed(self, stream: object) -> None:
        """It ended, in whatever way."""
        del self._open[stream]

    def end_all(self) -> None:
        """The process is to stop. Returns at once."""
        self.is_stopping = True
        self.tailer.end_all()
        asyncio.get_running_loop().call_later(LAST_SECONDS, self._abort_all)

    def close(self) -> None:
        """After ``end_all``. Blocks for a moment."""
        self.tailer.join()

    def _abort_all(self) -> None:
        for abort in list(self._open.values()):
            abort()


class JobStream(EventSourceResponse):
    """The stream of one job for one client: what is stored, then what comes."""

    def __init__(self, streams: Streams, job_id: str, opening: Opening, abort: Callable[[], object]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        self._written = self._chunks(opening)
        super().__init__(self._written, headers=headers)
        self._streams, self._job_id, self._abort = streams, job_id, abort
        self._after, self._last = opening.after, opening.last
        self._is_over = opening.is_over

    async def stream_response(self, send: Send) -> None:
        """As its base's, for a client that may take nothing any more."""
        loop = asyncio.get_running_loop()

        async def send_in_time(message: Message) -> None:
            limit = loop.call_later(SEND_SECONDS, self._abort)
            try:
                await send(message)
            finally:
                limit.cancel()

        self._streams.opened(self, self._abort)
        try:
            async with aclosing(self._written):
                await super().stream_response(send_in_time)
        finally:
            self._streams.closed(self)

    async def _chunks(self, opening: Opening) -> AsyncGenerator[bytes, None]:
        yield format_sse_event(retry=random.randint(*RETRY_MILLISECONDS)) + opening.written
        while not self._is_ending and self._after < self._last:
            yield await self._page()
        if self._is_ending:
            return
        with self._streams.tailer.following(self._job_id, self._after) as follower:
            while not self._is_ending and self._after < follower.joined_at:
                yield await self._page()
            follower.has(self._after)
            while not self._is_ending:
                taken = await follower.take(KEEPALIVE_SECONDS)
                if taken:
                    yield taken
                elif follower.is_over:
                    return
                else:
                    yield KEEPALIVE_COMMENT

    @property
    def _is_ending(self) -> bool:
        return self._is_over or self._streams.is_stopping

    async def _page(self) -> bytes:
        """What is stored next; a comment, after a moment, where the database does not answer."""
        try:
            news = await anyio.to_thread.run_sync(self._read, limiter=self._streams.readers)
        except DatabaseUnavailable:
            await asyncio.sleep(_AGAIN_SECONDS)
            return KEEPALIVE_COMMENT
        found = news.get(self._job_id)
        if found is None:  # the job was deleted
            self._is_over = True
            return KEEPALIVE_COMMENT
        self._after = found.lines[-1].sequence if found.lines else self._after
        self._last = found.last
        self._is_over = found.is_finished and self._after == found.last
        return frames(found.lines)

    def _read(self) -> dict[str, job_store.News]:
        return job_store.stream_news(self._streams.db, {self._job_id: self._after}, limit=PAGE)
