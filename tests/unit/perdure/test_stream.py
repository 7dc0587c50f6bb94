"""Following a job's stream: one iterator over many connections, with no gap and no repeat."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from perdure import Perdure, ServerUnreachableError
from perdure.errors import NotFoundError
from perdure.stream import StreamEvent, events, follow
from perdure.types import Attempt, Checkpoint, EpochMetrics, Event, JobStatus, StepBatch


def written(number: int, kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\nid: {number}\n\n".encode()


def event(number: int) -> bytes:
    return written(number, "event", sequence=number, type="parked")


def status(number: int, status: str, *, final: bool = False) -> bytes:
    return written(number, "status", status=status, final=final)


class Breaking(httpx2.SyncByteStream):
    """A body that ends in a broken connection."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx2.ReadError("reset by peer")


def serve(server: Any, *answers: Any) -> None:
    """Each is the body of one connection, or an error that there is instead of it."""
    line = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        next_one = next(line)
        if isinstance(next_one, Exception):
            raise next_one
        if isinstance(next_one, httpx2.Response):
            return next_one
        body = {"stream": next_one} if isinstance(next_one, Breaking) else {"content": next_one}
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, **body)

    server.routes["GET /jobs/j/stream"] = answer


@pytest.fixture
def told(client: Perdure) -> Callable[..., list[StreamEvent]]:
    """The whole stream, without waiting."""

    def read(**options: Any) -> list[StreamEvent]:
        values = {"after": None, "patience_seconds": 60.0, "on_away": lambda reason: None} | options
        return list(follow(client._transport, "/jobs/j/stream", sleep=lambda seconds: None, **values))

    return read


def positions(server: Any) -> list[str | None]:
    return [request.headers.get("last-event-id") for request in server.requests]


def test_events_come_as_their_types(server: Any, client: Perdure) -> None:
    serve(
        server,
        b"retry: 1500\n\n"
        + written(1, "event", sequence=1, type="created")
        + b": ping\n\n"
        + written(2, "attempt", attempt=1)
        + written(3, "metric", granularity="step", step=2, epoch=1, rows=[{"step": 1}, {"step": 2}])
        + written(4, "metric", granularity="epoch", epoch=1, val_loss=0.5)
        + written(5, "checkpoint", id="ckpt_1", epoch=1)
        + written(6, "of a newer server", x=1)
        + status(7, "succeeded", final=True),
    )
    found = list(client.jobs.stream("j"))
    assert [each.id for each in found] == [1, 2, 3, 4, 5, 6, 7]
    kinds = [type(each.data) for each in found]
    assert kinds[:5] == [Event, Attempt, StepBatch, EpochMetrics, Checkpoint] and kinds[6] is JobStatus
    assert isinstance(found[2].data, StepBatch) and [row.step for row in found[2].data.rows] == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pieces_of_any_size_and_any_characters(size: int) -> None:
    text = "a\u2028b\x85c\x0bd\u00e9\U0001f600 \\n data: x\\n\\nid: 9"
    body = written(1, "event", type="parked", message=text).replace(b"\n", b"\r\n") + event(2)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    first, second = events(pieces)
    assert isinstance(first.data, Event) and first.data.message == text
    assert (first.id, second.id) == (1, 2)


def test_every_end_of_a_connection_is_a_new_one_from_the_last_number(server: Any, told: Any) -> None:
    away: list[str] = []
    serve(
        server,
        event(1) + event(2),  # a server that stops in order
        Breaking(event(3), event(4)[:-1]),  # one that is killed within an event
        httpx2.ConnectError("[Errno 111] Connection refused"),
        server.problem(503, "database_unavailable", "Away."),
        Breaking(),
        event(4) + status(5, "succeeded", final=True),
    )
    assert [each.id for each in told(on_away=away.append)] == [1, 2, 3, 4, 5]
    assert positions(server) == [None, "2", "3", "3", "3", "3"]
    assert len(away) == 5 and "connection refused" in away[2] and "database_unavailable" in away[3]


def test_a_final_status_ends_it_only_where_the_server_ends_too(server: Any, told: Any) -> None:
    again = status(1, "failed", final=True) + event(2) + status(3, "queued")
    serve(server, again, status(4, "succeeded", final=True))
    assert [each.id for each in told(after=0)] == [1, 2, 3, 4]
    assert positions(server) == ["0", "3"]


def test_a_final_status_whose_connection_broke_is_asked_for_no_more(server: Any, told: Any) -> None:
    serve(server, Breaking(status(1, "succeeded", final=True)), httpx2.Response(204))
    assert [each.id for each in told()] == [1]
    assert positions(server) == [None, "1"]


def test_a_refusal_is_raised(server: Any, told: Any) -> None:
    serve(server, server.problem(404, "not_found", "There is no such job."))
    with pytest.raises(NotFoundError):
        told()


def test_patience_ends(server: Any, told: Any) -> None:
    now = iter(range(0, 10_000, 10))
    serve(server, event(1), *[httpx2.ConnectError("refused")] * 100)
    with pytest.raises(ServerUnreachableError):
        told(clock=lambda: float(next(now)))
    assert 4 <= len(server.requests) <= 8, "about a minute of tens of seconds"


def test_a_server_that_never_was_there_is_not_waited_for_so_long(server: Any, told: Any) -> None:
    now = iter(range(1000))
    serve(server, *[httpx2.ConnectError("refused")] * 100)
    with pytest.raises(ServerUnreachableError):
        told(clock=lambda: float(next(now)))
    assert len(server.requests) <= 6, "as long as any request is tried: 5 s here"


def test_waits_grow_and_differ(server: Any, client: Perdure) -> None:
    waits: list[float] = []
    serve(server, *[httpx2.ConnectError("refused")] * 9, status(1, "succeeded", final=True))
    client._transport.retry_seconds = 60.0
    list(
        follow(
            client._transport, "/jobs/j/stream", after=None, patience_seconds=60.0,
            on_away=lambda reason: None, sleep=waits.append,
        )
    )  # fmt: skip
    assert len(set(waits)) == 9 and max(waits) <= 5.0 and min(waits) >= 0.1
    assert waits[-1] > 2 * waits[0]
