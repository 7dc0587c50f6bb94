"""What surrounds a page of jobs: their places in the queue, where they would resume, who could run them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Float, Select, and_, bindparam, func, select

from models.database import Database, deferred_lease_now
from models.dataset_state import LIGHT
from models.job_state import JobStatus
from models.job_store.fence import JobRow
from models.job_store.queue_places import queue_places, within_reach
from models.tables import checkpoints, epoch_metrics, jobs, workers

_DEVICES = ("cpu", "cuda")
_OF_THESE: BindParameter[Any] = bindparam("ids", expanding=True)
_RESUME_POINTS: Select[Any] = (
    select(checkpoints.c.job_id, checkpoints.c.id, checkpoints.c.epoch, checkpoints.c.step)
    .join(jobs, and_(jobs.c.id == checkpoints.c.job_id, jobs.c.committed_step == checkpoints.c.step))
    .where(jobs.c.id.in_(_OF_THESE), checkpoints.c.status == "committed")
    .order_by(checkpoints.c.id)
)
_SURVIVING_SECONDS = (
    select(epoch_metrics.c.job_id, func.sum(epoch_metrics.c.duration_seconds))
    .where(epoch_metrics.c.job_id.in_(_OF_THESE))
    .group_by(epoch_metrics.c.job_id)
)


@dataclass(frozen=True)
class Overview:
    """Everything by job id; a job is missing where there is nothing to say."""

    queue_positions: dict[str, int]  #: 1 would be claimed next by a worker that fits; none beyond a thousand
    resume_points: dict[str, JobRow]  #: the checkpoint (id, epoch, step) that the next attempt begins from
    surviving_seconds: dict[str, float]  #: of the epochs that are part of the weights
    online_workers: dict[str, int]  #: how many by device


def overview(db: Database, rows: Sequence[JobRow], *, silent_after_seconds: float) -> Overview:
    """A look at the surroundings of ``rows``, whose cost depends on their number alone."""
    ever_claimed = [row.id for row in rows if row.first_claimed_at is not None]
    is_queued = any(row.status == JobStatus.QUEUED for row in rows)
    with db.reading() as tx:
        online = _online_workers(tx, db, silent_after_seconds) if is_queued else {}
        return Overview(
            _queue_positions(tx, db, rows, online) if is_queued else {},
            _resume_points(tx, [row.id for row in rows if row.committed_step > 0]),
            surviving_seconds(tx, ever_claimed),
            online,
        )


def _queue_positions(
    tx: Connection, db: Database, rows: Sequence[JobRow], online: dict[str, int]
) -> dict[str, int]:
    """Among the jobs that the same workers may take; where several kinds may, the best of these places."""
    queued = [row for row in rows if row.status == JobStatus.QUEUED]
    wanted = within_reach(tx, queued)
    anywhere = sorted(online) or _DEVICES
    positions: dict[str, int] = {}
    for device in _DEVICES:
        kinds = {device, "any"} if device in anywhere else {device}
        of_kinds = {row.id for row in queued if row.device_class in kinds} & wanted
        for job_id, place in queue_places(tx, db, device, of_kinds).items():
            positions[job_id] = min(place, positions.get(job_id, place))
    return positions


def _resume_points(tx: Connection, ids: list[str]) -> dict[str, JobRow]:
    return {row.job_id: row for row in tx.execute(_RESUME_POINTS, {"ids": ids})} if ids else {}


def surviving_seconds(tx: Connection, ids: list[str]) -> dict[str, float]:
    """By job id: what the epochs took that are part of its weights."""
    if not ids:
        return {}
    return {job_id: float(seconds or 0.0) for job_id, seconds in tx.execute(_SURVIVING_SECONDS, {"ids": ids})}


def _online_workers(tx: Connection, db: Database, silent_after_seconds: float) -> dict[str, int]:
    given = {"silent_after_seconds": silent_after_seconds, **db.clock_values()}
    return {row.device: row.number for row in tx.execute(_counting_workers(db.is_sqlite), given)}


@cache
def _counting_workers(is_sqlite: bool) -> Select[Any]:
    heard_after = deferred_lease_now(is_sqlite=is_sqlite) - bindparam("silent_after_seconds", type_=Float)
    return (
        select(workers.c.device, func.count().label("number"))
        .where(
            workers.c.status == "online",
            workers.c.device != LIGHT,  # those train nothing
            workers.c.heartbeat > heard_after,
        )
        .group_by(workers.c.device)
    )
