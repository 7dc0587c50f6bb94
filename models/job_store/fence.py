"""The fence that every write of a worker passes, and the audit trail that every transition leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Row, String, and_, bindparam, insert, select, update

from models.columns import storable
from models.database import Database, deferred_now
from models.errors import LeaseLost, NotFound
from models.job_state import MOVES, EventType, JobStatus
from models.job_store.stream import STATUS_COLUMNS, Line, append, event_line, status_line
from models.tables import events, jobs
from models.webhooks import outbox

JobRow = Row[Any]


@dataclass(frozen=True)
class Fence:
    """What a worker holds: the job under the attempt that it claimed."""

    job_id: str
    attempt: int

    @property
    def values(self) -> dict[str, Any]:
        """What a statement with ``HELD`` is executed with."""
        return {"held_job": self.job_id, "held_attempt": self.attempt}


#: True for the job's row while the lease is ours.
HELD = and_(
    jobs.c.id == bindparam("held_job", type_=String),
    jobs.c.status == JobStatus.RUNNING,
    jobs.c.attempt == bindparam("held_attempt", type_=Integer),
)
_LOCKING = select(jobs).where(HELD).with_for_update()

#: What a worker's write returns of the job's row, for ``Requests.of``.
ASKED = (jobs.c.cancel_requested, jobs.c.pause_requested, jobs.c.drill_requested)


@dataclass(frozen=True)
class Requests:
    """What users asked of a running job; seen by its worker with every write."""

    cancel: bool
    pause: bool
    drill: str | None = None  #: the id of one that is to be carried out

    @classmethod
    def of(cls, row: JobRow) -> "Requests":
        """From a row that has at least the columns of ``ASKED``."""
        return cls(row.cancel_requested, row.pause_requested, row.drill_requested)


def holding(tx: Connection, fence: Fence) -> JobRow:
    """Lock the job's row until the end of the transaction. Raises LeaseLost when it is no longer ours."""
    row = tx.execute(_LOCKING, fence.values).one_or_none()
    if row is None:
        raise LeaseLost
    return row


def locked(tx: Connection, job_id: str) -> JobRow:
    """Lock the row of any job, whatever its state. Raises NotFound."""
    row = tx.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id!r}; `GET /jobs` lists those that exist.")
    return row


def numbered(num_lines: Any) -> dict[str, Any]:
    """The job's columns that an event and its lines take their numbers from, as an update sets them."""
    return {"event_count": jobs.c.event_count + 1, "stream_count": jobs.c.stream_count + num_lines}


#: The same of a row that is inserted together with its first event, which is a move.
FIRST_NUMBERS = {"event_count": 1, "stream_count": 2}
_NUMBERING = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(numbered(bindparam("num_lines", type_=Integer)))
    .returning(jobs.c.id, jobs.c.event_count, jobs.c.stream_count, outbox.IS_WANTED, *STATUS_COLUMNS)
)


def record(
    tx: Connection,
    db: Database,
    job_id: str,
    kind: EventType,
    message: str,
    *,
    attempt: int,
    idempotency_key: str | None = None,
    told: Sequence[Line] = (),
    **data: Any,
) -> None:
    """Append to the job's trail. The number comes from the job's row, which the caller has locked.

    The stream gets ``told``, what else the transaction did; then the event; last the job's new status.
    Webhooks that asked for such events get a message.
    """
    num_lines = len(told) + 1 + (kind in MOVES)
    job = tx.execute(_NUMBERING, {"of_job": job_id, "num_lines": num_lines}).one()
    append_event(
        tx, db, job, kind, message, attempt=attempt, idempotency_key=idempotency_key, told=told, **data
    )


def append_event(
    tx: Connection,
    db: Database,
    job: JobRow,
    kind: EventType,
    message: str,
    *,
    attempt: int,
    idempotency_key: str | None = None,
    told: Sequence[Line] = (),
    **data: Any,
) -> None:
    """As ``record``, where the statement that wrote the job's row has numbered the event, too.

    ``job`` is that row, returned with ``outbox.IS_WANTED``.
    """
    event = {
        "sequence": job.event_count,
        "type": str(kind),
        "attempt": attempt,
        "message": storable(message),
        "data": data,
    }
    row = {**event, "job_id": job.id, "idempotency_key": idempotency_key, **db.clock_values()}
    created_at = tx.execute(_inserting_event(db.is_sqlite), row).scalar_one()
    status = [status_line(job)] if kind in MOVES else []
    append(tx, db, job.id, job.stream_count, [*told, event_line(event | {"created_at": created_at}), *status])
    if job.is_told:
        outbox.enqueue(tx, job.id, kind, job.event_count, storable(message))


@cache
def _inserting_event(is_sqlite: bool) -> Any:
    return insert(events).values(created_at=deferred_now(is_sqlite=is_sqlite)).returning(events.c.created_at)
