"""What is told of a job as it happens: one gapless order of lines, written with what they tell.

Each line goes into the transaction whose effect it tells, and takes its number from the job's row. Whoever
numbers a line holds that row until the commit, so lines become visible in the order of their numbers:
somebody who has read up to N misses nothing by asking for what comes after N.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, insert, update

from models.database import Database, deferred_now
from models.job_state import FINISHED, StreamKind
from models.tables import jobs, stream

#: What a ``status`` line needs of the job's row.
STATUS_COLUMNS = (
    jobs.c.status, jobs.c.attempt, jobs.c.recoveries, jobs.c.cancel_requested, jobs.c.pause_requested,
    jobs.c.error_code, jobs.c.error_message, jobs.c.weights_sha256,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What is to be told; ``data`` is JSON."""

    kind: StreamKind
    data: dict[str, Any]


def tell(tx: Connection, db: Database, job_id: str, lines: Sequence[Line]) -> None:
    """Number these lines and append them."""
    if lines:
        last = tx.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(stream_count=jobs.c.stream_count + len(lines))
            .returning(jobs.c.stream_count)
        ).scalar_one()
        append(tx, db, job_id, last, lines)


def append(tx: Connection, db: Database, job_id: str, last: int, lines: Sequence[Line]) -> None:
    """These lines up to the number ``last``, which the caller has taken from the job's row for them."""
    if lines:
        first = last - len(lines) + 1
        rows = [
            {"job_id": job_id, "sequence": sequence, "kind": str(line.kind), "data": line.data}
            for sequence, line in enumerate(lines, start=first)
        ]
        clock = db.clock_values()
        tx.execute(_appending(db.is_sqlite), [row | clock for row in rows]).close()


@cache
def _appending(is_sqlite: bool) -> Any:
    """With ``returning`` SQLAlchemy puts any number of rows into one statement, and builds it once."""
    now = deferred_now(is_sqlite=is_sqlite)
    return insert(stream).values(created_at=now).returning(stream.c.sequence)


def status_line(job: Row[Any]) -> Line:
    """From a row of ``STATUS_COLUMNS``."""
    error = None if job.error_code is None else {"code": job.error_code, "message": job.error_message}
    names = (
        "status", "attempt", "recoveries", "cancel_requested", "pause_requested", "weights_sha256",
    )  # fmt: skip
    return Line(
        StreamKind.STATUS,
        {name: getattr(job, name) for name in names} | {"error": error, "final": job.status in FINISHED},
    )


def attempt_line(row: Row[Any]) -> Line:
    """The ledger's row as it is now."""
    return Line(StreamKind.ATTEMPT, _told(row) | {"inexact_reasons": row.inexact_reasons or []})


def checkpoint_line(row: Row[Any]) -> Line:
    """The checkpoint's row as it is now."""
    return Line(StreamKind.CHECKPOINT, _told(row))


def epoch_line(row: Row[Any]) -> Line:
    """An epoch that is sealed, or sealed again."""
    return Line(StreamKind.METRIC, {"granularity": "epoch", **_told(row)})


def steps_line(rows: Sequence[Mapping[str, Any]], attempt: int) -> Line:
    """Steps of one flush, in order; columns once for all of them, since a job may have millions."""
    columns = ("step", "epoch", "loss", "learning_rate")
    return Line(
        StreamKind.METRIC,
        {
            "granularity": "step", "attempt": attempt, "columns": columns,
            "rows": [[_finite(row[column]) for column in columns] for row in rows],
        },
    )  # fmt: skip


def event_line(row: Mapping[str, Any]) -> Line:
    """A line of the audit trail."""
    return Line(StreamKind.EVENT, {name: _json(value) for name, value in row.items()})


def _told(row: Row[Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in row._mapping.items() if name != "job_id"}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return _finite(value)


def _finite(value: Any) -> Any:
    # PostgreSQL refuses NaN in JSON; what is not finite is null wherever it is shown.
    return None if isinstance(value, float) and not math.isfinite(value) else value
