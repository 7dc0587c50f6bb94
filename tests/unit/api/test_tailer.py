"""Streams of a job that goes on: one tailer for all clients, in an event loop of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import streams as streams_module
from api import tailer as tailer_module
from api.streams import JobStream, Opening, Streams
from api.tailer import Follower
from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable
from tests.unit.api.event_streams import parsed


class Reader:
    """A client in this process."""

    def __init__(self, streams: Streams, job_id: str, after: int) -> None:
        self.text = ""
        opening = Opening(b"", after, after, is_over=False)
        self._stream = JobStream(streams, job_id, opening, abort=lambda: None)
        self.task = asyncio.create_task(self._stream.stream_response(self._send))
        self.stuck: asyncio.Event | None = None

    async def _send(self, message: Any) -> None:
        if self.stuck is not None:
            await self.stuck.wait()
        self.text += message.get("body", b"").decode()

    @property
    def ids(self) -> list[int]:
        return [told["id"] for told in parsed(self.text)]

    async def has(self, last: int) -> None:
        await eventually(lambda: self.ids[-1:] == [last])


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def in_a_loop(db: Database, story: Callable[[Streams], Awaitable[None]]) -> None:
    async def run() -> None:
        streams = Streams(db)
        try:
            await story(streams)
        finally:
            streams.end_all()
            await asyncio.to_thread(streams.close)

    asyncio.run(run())


def position_of(db: Database, job_id: str) -> int:
    return int(job_store.get_job(db, job_id).stream_count)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailer_module, "MIN_SECONDS", 0.01)
    monkeypatch.setattr(tailer_module, "MAX_SECONDS", 0.02)
    monkeypatch.setattr(streams_module, "_AGAIN_SECONDS", 0.01)


@pytest.fixture
def running(client: TestClient, submit: Any, worker: Any) -> str:
    submit()
    job_id: str = worker.claim()
    worker.prepare()
    return job_id


def test_clients_hear_each_line_once_wherever_they_join(db: Database, running: str, worker: Any) -> None:
    async def story(streams: Streams) -> None:
        early = [Reader(streams, running, after=0) for _ in range(3)]
        await early[0].has(position_of(db, running))
        worker.epoch(1)
        await early[0].has(position_of(db, running))
        # One has missed a lot, one is where the others are.
        joined = position_of(db, running)
        late = [Reader(streams, running, after) for after in (0, joined)]
        for number in (2, 3, 4):
            worker.epoch(number)
        job_store.finish(db, worker.fence, "ab" * 32)
        last = position_of(db, running)
        for reader, after in [*((each, 0) for each in early), (late[0], 0), (late[1], joined)]:
            await asyncio.wait_for(reader.task, 20)
            assert reader.ids == list(range(after + 1, last + 1))
            assert parsed(reader.text)[-1]["final"] is True

    in_a_loop(db, story)


def test_nobody_asks_the_database_while_nobody_listens(
    db: Database, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = job_store.stream_news
    monkeypatch.setattr(job_store, "stream_news", lambda *a, **k: asked.append(a[1]) or ask(*a, **k))

    async def story(streams: Streams) -> None:
        reader = Reader(streams, running, position_of(db, running))
        await eventually(lambda: len(asked) > 3)
        assert all(set(positions) == {running} for positions in asked)
        reader.task.cancel()
        with suppress(asyncio.CancelledError):
            await reader.task
        await asyncio.sleep(0.1)
        before = len(asked)
        await asyncio.sleep(0.2)
        assert len(asked) == before

    in_a_loop(db, story)


def test_a_database_that_is_away_ends_no_stream(
    db: Database, running: str, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "KEEPALIVE_SECONDS", 0.02)
    ask = job_store.stream_news

    def refuse(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable

    async def story(streams: Streams) -> None:
        start = position_of(db, running)
        reader, behind = Reader(streams, running, start), Reader(streams, running, start)
        worker.epoch(1)
        await reader.has(position_of(db, running))
        monkeypatch.setattr(job_store, "stream_news", refuse)
        late = Reader(streams, running, 0)  # has old lines to read, and joins in the outage
        worker.epoch(2)
        await eventually(lambda: reader.text.count(": ping") > 3 and late.text.count(": ping") > 3)
        monkeypatch.setattr(job_store, "stream_news", ask)
        for each, after in ((reader, start), (behind, start), (late, 0)):
            await each.has(position_of(db, running))
            assert each.ids == list(range(after + 1, position_of(db, running) + 1))

    in_a_loop(db, story)


def test_a_client_that_takes_nothing_is_cut_off_and_the_others_are_not(
    db: Database, running: str, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailer_module, "MAX_WAITING", 10)

    async def story(streams: Streams) -> None:
        start = position_of(db, running)
        slow, quick = Reader(streams, running, start), Reader(streams, running, start)
        await eventually(lambda: len(streams.tailer._channels) == 1)
        slow.stuck = asyncio.Event()
        for number in (1, 2, 3, 4):
            worker.epoch(number)
            await quick.has(position_of(db, running))
        slow.stuck.set()
        await asyncio.wait_for(slow.task, 20)
        assert not quick.task.done()
        got = len(slow.ids)
        assert slow.ids == list(range(start + 1, start + got + 1)), "what it got has no gap"
        assert got < len(quick.ids)
        again = Reader(streams, running, start + got)
        await again.has(position_of(db, running))
        assert slow.ids + again.ids == quick.ids

    in_a_loop(db, story)


def test_a_job_that_is_deleted_ends_its_streams(db: Database, running: str) -> None:
    async def story(streams: Streams) -> None:
        reader = Reader(streams, running, position_of(db, running))
        await eventually(lambda: len(streams.tailer._channels) == 1)
        with db.writing() as tx:
            tx.exec_driver_sql("DELETE FROM jobs")
        await asyncio.wait_for(reader.task, 20)
        assert streams.tailer._channels == {}

    in_a_loop(db, story)


def test_a_process_that_is_to_stop_ends_them_and_breaks_those_that_do_not_end(
    db: Database, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "LAST_SECONDS", 0.05)

    async def story(streams: Streams) -> None:
        idle = Reader(streams, running, position_of(db, running))
        stuck = Reader(streams, running, 0)
        stuck.stuck = asyncio.Event()
        stuck._stream._abort = stuck.stuck.set
        await eventually(lambda: len(streams._open) == 2)
        streams._open[stuck._stream] = stuck.stuck.set
        streams.end_all()
        await asyncio.wait_for(asyncio.gather(idle.task, stuck.task), 20)
        assert streams._open == {}
        late = Reader(streams, running, position_of(db, running))
        await asyncio.wait_for(late.task, 20)

    in_a_loop(db, story)


def test_lines_that_a_client_has_read_by_itself_are_not_handed_to_it() -> None:
    async def story() -> None:
        follower = Follower("job_1", after=3, joined_at=5)
        for sequence in (6, 7, 8):
            follower.put(sequence, b"%d " % sequence)
        follower.has(7)
        follower.put(7, b"never")
        assert await follower.take(1.0) == b"8 "
        follower.end()
        assert await follower.take(1.0) == b""

    asyncio.run(story())
