"""What there is to see of jobs; nothing here changes anything.

What takes a job's id does not ask whose job it is: who may see it is settled where the id comes in, by
``tenant_of_job``.
"""

from typing import Any

from sqlalchemy import Connection, Select, Table, select, tuple_

from models.database import Database
from models.errors import ContentGone, NotFound
from models.job_store.fence import JobRow
from models.tables import attempts, checkpoints, events, jobs
from models.tables import epoch_metrics as epoch_table
from models.tables import step_metrics as step_table


def get_job(db: Database, job_id: str) -> JobRow:
    """Raises NotFound."""
    with db.reading() as tx:
        return expect_job(tx, job_id)


def tenant_of_job(db: Database, job_id: str) -> str | None:
    """Whose job it is, which never changes; None where there is none."""
    with db.reading() as tx:
        return tx.execute(select(jobs.c.tenant_id).where(jobs.c.id == job_id)).scalar_one_or_none()


def epoch_metrics(db: Database, job_id: str, *, after: int = 0, limit: int = 20) -> list[JobRow]:
    """Rows of epochs beyond ``after``, in order. Raises NotFound."""
    return _rows(db, job_id, epoch_table, "epoch", after, limit)


def step_metrics(db: Database, job_id: str, *, after: int = 0, limit: int = 20) -> list[JobRow]:
    """Rows of steps beyond ``after``, in order. Raises NotFound."""
    return _rows(db, job_id, step_table, "step", after, limit)


def job_events(db: Database, job_id: str, *, after: int = 0, limit: int = 20) -> list[JobRow]:
    """The trail beyond the sequence number ``after``, in order. Raises NotFound."""
    return _rows(db, job_id, events, "sequence", after, limit)


def job_attempts(db: Database, job_id: str, *, after: int = 0, limit: int = 20) -> list[JobRow]:
    """The ledger beyond attempt ``after``, in order. Raises NotFound."""
    return _rows(db, job_id, attempts, "attempt", after, limit)


def job_checkpoints(db: Database, job_id: str, *, after: str | None = None, limit: int = 20) -> list[JobRow]:
    """Every checkpoint ever recorded, newest first, from after the id ``after``. Raises NotFound."""
    wanted = select(checkpoints).where(checkpoints.c.job_id == job_id)
    with db.reading() as tx:
        expect_job(tx, job_id)
        if after is not None:
            last = tx.execute(
                select(checkpoints.c.step, checkpoints.c.id).where(
                    checkpoints.c.id == after, checkpoints.c.job_id == job_id
                )
            ).one_or_none()
            if last is None:
                raise NotFound(f"There is no checkpoint {after!r} in this job.")
            wanted = wanted.where(tuple_(checkpoints.c.step, checkpoints.c.id) < tuple_(last.step, last.id))
        newest_first = wanted.order_by(checkpoints.c.step.desc(), checkpoints.c.id.desc())
        return list(tx.execute(newest_first.limit(limit)))


def get_checkpoint(db: Database, job_id: str, which: str) -> JobRow:
    """``last``, ``best`` or an id. Raises NotFound, ContentGone for one that retention let go."""
    with db.reading() as tx:
        job = expect_job(tx, job_id)
        wanted = select(checkpoints).where(checkpoints.c.job_id == job_id)
        if which == "last":
            wanted = wanted.where(checkpoints.c.status == "committed").order_by(
                checkpoints.c.step.desc(), checkpoints.c.id.desc()
            )
        else:
            wanted = wanted.where(checkpoints.c.id == (job.best_checkpoint_id if which == "best" else which))
        row = tx.execute(wanted.limit(1)).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no checkpoint {which!r} in this job; `GET /jobs/{job_id}/checkpoints` lists them."
        )
    if row.status != "committed":
        raise ContentGone(f"Checkpoint {row.id} was {row.status}; choose one whose status is committed.")
    return row


def expect_job(tx: Connection, job_id: str) -> JobRow:
    """The job's row as it stands. Raises NotFound."""
    wanted: Select[Any] = select(jobs).where(jobs.c.id == job_id)
    row = tx.execute(wanted).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id!r}; `GET /jobs` lists those that exist.")
    return row


def _rows(db: Database, job_id: str, table: Table, key: str, after: int, limit: int) -> list[JobRow]:
    with db.reading() as tx:
        expect_job(tx, job_id)
        wanted = select(table).where(table.c.job_id == job_id, table.c[key] > after)
        return list(tx.execute(wanted.order_by(table.c[key]).limit(limit)))
