"""One thread that asks the database what is new, for all clients that follow jobs.

It sleeps while nobody follows one. A round is one question for all jobs that are followed, whatever the
number of clients; what comes of it is written once and handed to each of them in the event loop.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from api.stream_frames import frame
from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable
from models.outages import Outages

#: Between two questions: right after something was new, and at most.
MIN_SECONDS, MAX_SECONDS = 0.2, 1.0
_SLOWER = 1.5
#: Lines of one round.
_LINES = 500
#: A client that lets so many wait is cut off; it may come again with the number of the last that it got.
MAX_WAITING = 1000
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Told:
    """What a job told, ready to be sent."""

    lines: list[tuple[int, bytes]]
    end: int | None  #: the number after which nothing follows, of a job that is finished


class Follower:
    """One client's place in the stream of a job. Used in the event loop alone."""

    def __init__(self, job_id: str, after: int, joined_at: int) -> None:
        self.job_id = job_id
        self.joined_at = joined_at  #: later lines come to it; those up to here, it has to read itself
        self.is_over = False  #: nothing will follow what waits
        self._after = after
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._woken = asyncio.Event()

    def put(self, sequence: int, written: bytes) -> None:
        """The next line of the job."""
        if self.is_over or sequence <= self._after:
            return
        self._waiting.append((sequence, written))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.clear()
            self.is_over = True
        self._woken.set()

    def has(self, after: int) -> None:
        """The client has read so far by itself."""
        self._after = after
        while self._waiting and self._waiting[0][0] <= after:
            self._waiting.popleft()

    def end(self) -> None:
        """There will be no more."""
        self.is_over = True
        self._woken.set()

    async def take(self, seconds: float) -> bytes:
        """What waits, as soon as anything does; nothing after so many seconds, or when it is over."""
        if not self._waiting and not self.is_over:
            self._woken.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return b""
        taken = b"".join(written for _, written in self._waiting)
        self._waiting.clear()
        return taken


class _Channel:
    """A job that is followed."""

    def __init__(self, head: int) -> None:
        self.head = head  #: the last line that was handed out
        self.followers: set[Follower] = set()


class Tailer:
    """Follows jobs for the clients of one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._loop = asyncio.get_running_loop()
        self._channels: dict[str, _Channel] = {}
        self._changed = threading.Condition()  #: guards the channels and their heads
        self._stopping = False
        self._fresh = False  #: somebody follows a job that nobody did before
        self._thread = threading.Thread(target=self._run, name="tailer", daemon=True)
        self._thread.start()

    @contextmanager
    def following(self, job_id: str, after: int) -> Iterator[Follower]:
        """A client that has every line up to ``after``."""
        with self._changed:
            if job_id not in self._channels:
                self._channels[job_id] = _Channel(after)
                self._fresh = True
                self._changed.notify()
            channel = self._channels[job_id]
        follower = Follower(job_id, after, channel.head)
        channel.followers.add(follower)
        if self._stopping:
            follower.end()
        try:
            yield follower
        finally:
            channel.followers.discard(follower)
            with self._changed:
                if not channel.followers and self._channels.get(job_id) is channel:
                    del self._channels[job_id]

    def end_all(self) -> None:
        """The process is to stop: every client is told what it has to be told, and that this was all."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        for channel in self._channels.values():
            for follower in channel.followers:
                follower.end()

    def join(self, timeout: float = 2.0) -> None:
        """After ``end_all``: wait for the question under way."""
        self._thread.join(timeout)

    def _run(self) -> None:
        seconds, outages = MIN_SECONDS, Outages("stream")
        while (positions := self._next(seconds)) is not None:
            try:
                news = job_store.stream_news(self._db, positions, limit=_LINES)
                told = {job_id: _written(news.get(job_id)) for job_id in positions}
            except DatabaseUnavailable as error:
                outages.away(error)
                seconds = MAX_SECONDS
                continue
            except Exception:  # noqa: BLE001 - the thread must outlive any surprise: every stream depends on it
                _log.exception("stream.failed")
                seconds = MAX_SECONDS
                continue
            outages.over()
            is_quiet = not any(found and found.lines for found in news.values())
            seconds = min(MAX_SECONDS, _SLOWER * seconds) if is_quiet else MIN_SECONDS
            with self._changed:
                if self._stopping:
                    return
                self._loop.call_soon_threadsafe(self._hand_out, told)

    def _next(self, seconds: float) -> dict[str, int] | None:
        """Whose news to ask for, once it is time; None when the process is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._fresh, timeout=seconds)
            self._changed.wait_for(lambda: self._stopping or self._channels)
            self._fresh = False
            if self._stopping:
                return None
            return {job_id: channel.head for job_id, channel in self._channels.items()}

    def _hand_out(self, told: Mapping[str, _Told | None]) -> None:
        """By job, None for one that is gone."""
        for job_id, found in told.items():
            channel = self._channels.get(job_id)
            if channel is None:
                continue
            for sequence, written in found.lines if found else []:
                # Else it was asked for before the last round was handed out, or for a channel that is gone.
                if sequence != channel.head + 1:
                    continue
                with self._changed:
                    channel.head = sequence
                for follower in channel.followers:
                    follower.put(sequence, written)
            if found is None or found.end == channel.head:
                for follower in channel.followers:
                    follower.end()
                with self._changed:
                    del self._channels[job_id]


def _written(found: job_store.News | None) -> _Told | None:
    if found is None:
        return None
    lines = [(line.sequence, frame(line)) for line in found.lines]
    return _Told(lines, found.last if found.is_finished else None)
