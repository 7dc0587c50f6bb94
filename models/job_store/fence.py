"""The fence that every write of a worker passes, and the audit trail that every transition leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Row, String, and_, bindparam, insert, select, update

from models.columns import storable
from models.database import Database
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
    moves = kind in MOVES
    job = tx.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            event_count=jobs.c.event_count + 1,
            stream_count=jobs.c.stream_count + (len(told) + 1 + moves),
        )
        .returning(jobs.c.event_count, jobs.c.stream_count, *STATUS_COLUMNS)
    ).one()
    event = {
        "sequence": job.event_count,
        "type": str(kind),
        "attempt": attempt,
        "message": storable(message),
        "data": data,
    }
    created_at = tx.execute(
        insert(events)
        .values(**event, job_id=job_id, idempotency_key=idempotency_key, created_at=db.now())
        .returning(events.c.created_at)
    ).scalar_one()
    lines = [*told, event_line(event | {"created_at": created_at}), *([status_line(job)] if moves else [])]
    append(tx, db, job_id, job.stream_count, lines)
    outbox.enqueue(tx, job_id, kind, job.event_count, storable(message))
