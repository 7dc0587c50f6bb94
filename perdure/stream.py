"""A job's stream from the server, as one iterator that outlives the connections that it takes.

Every event has a number. Whenever the connection ends before the job does, the next one asks for what comes
after the last number, so nothing is missed and nothing comes twice, whatever was restarted meanwhile.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from perdure.errors import RateLimitedError, ServerUnreachableError, UnavailableError
from perdure.transport import Transport, reason_of
from perdure.types import Answer, Attempt, Checkpoint, EpochMetrics, Event, JobStatus, StepBatch

#: The server breaks its silence every 15 s.
SILENCE_SECONDS = 45.0
#: Between two connections: less at first, never more, and never the same for two clients.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
_NO_CONTENT = 204


@dataclass(frozen=True)
class StreamEvent:
    """Something that happened to a job; ``data`` is what the lists of the job show, too."""

    id: int  #: numbers have no gaps
    event: str  #: metric, status, attempt, checkpoint or event
    data: JobStatus | EpochMetrics | StepBatch | Attempt | Checkpoint | Event | Answer


def follow(
    transport: Transport,
    path: str,
    *,
    after: int | None,
    patience_seconds: float,
    on_away: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[StreamEvent]:
    """Every event after the number ``after`` until the job is finished.

    Raises PerdureAPIError for a refusal, ServerUnreachableError once the server has been away for
    ``patience_seconds``, or as long as any request is tried if it never was there; until then ``on_away`` is
    told why.
    """
    heard_at, wait = clock(), FIRST_WAIT_SECONDS
    patience = transport.retry_seconds
    is_final = False
    while True:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        reason = "the stream ended"
        try:
            with transport.stream(path, headers=headers, silence_seconds=SILENCE_SECONDS) as response:
                if response.status_code == _NO_CONTENT:
                    return
                heard_at, patience = clock(), patience_seconds
                for told in events(response.iter_bytes()):
                    heard_at, wait, after = clock(), FIRST_WAIT_SECONDS, told.id
                    if isinstance(told.data, JobStatus):
                        is_final = told.data.final
                    yield told
            if is_final:
                return
        except httpx2.TransportError as error:
            reason = reason_of(error)
        except (UnavailableError, RateLimitedError) as error:
            reason = error.code
        if clock() - heard_at >= patience:
            raise ServerUnreachableError(transport.url, reason)
        on_away(reason)
        sleep(random.uniform(wait / 2, wait))
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def events(chunks: Iterable[bytes]) -> Iterator[StreamEvent]:
    """The whole events in a body of ``text/event-stream``; one that was cut off in the middle is dropped."""
    fields: dict[str, str] = {}
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        if name:  # else a comment
            fields[name] = value.removeprefix(" ")
        if line:
            continue
        if "id" in fields and "data" in fields:
            kind = fields.get("event", "")
            yield StreamEvent(int(fields["id"]), kind, _data(kind, json.loads(fields["data"])))
        fields = {}


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # Not by str.splitlines: it takes characters for line breaks that may stand in a JSON string.
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()


_SHAPES: Mapping[str, type[Answer]] = {
    "status": JobStatus, "attempt": Attempt, "checkpoint": Checkpoint, "event": Event,
}  # fmt: skip


def _data(kind: str, data: dict[str, Any]) -> Answer:
    if kind == "metric":
        return (EpochMetrics if data.get("granularity") == "epoch" else StepBatch).model_validate(data)
    return _SHAPES.get(kind, Answer).model_validate(data)
