"""The order of claims: who is next among the jobs that wait.

Jobs of one device class, tenant and priority wait in a *lane*, the one that was submitted first in front.
Among the fronts of all lanes that fit a worker, the next is the one

1. of the highest priority, where each hour in which its lane got nothing counts as one more point;
2. of the tenant with the fewest running jobs;
3. that was submitted first.

So a tenant that queues ten thousand jobs delays another's first one by none of them: its own hours begin anew
with each job that it gets. And nothing starves: a lane behind endless work of higher priority rises above it,
for one job at a time.

A lane costs a few looks into indexes, however many jobs wait in it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    FromClause,
    Integer,
    Select,
    String,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement

from models.database import deferred_unix_now, unix_of
from models.job_state import JobStatus
from models.tables import jobs

#: A lane that got nothing for so long counts as one point of priority higher.
AGEING_SECONDS = 3600
#: The columns of a job that say in which lane it waits.
LANE = ("device_class", "tenant_id", "priority")

Condition = Callable[[FromClause], Sequence[ColumnElement[bool]]]

# Made once: each has as many columns as the table, and a claim needs all of them.
_KINDS = union_all(
    select(literal("any", String).label("name")), select(bindparam("device", type_=String).label("name"))
).subquery("kinds")
_FIRST, _BEFORE, _AFTER, _LANE, _FRONT, _WAITING, _SERVED, _RUNNING = (
    jobs.alias(name) for name in ("first", "before", "after", "lane", "front", "waiting", "served", "running")
)


def everything(_: FromClause) -> Sequence[ColumnElement[bool]]:
    """No condition beside that a job is queued."""
    return ()


@cache
def lanes(is_sqlite: bool, fits: Condition = everything) -> Select[Any]:
    """The lanes that a worker may claim from, the next first.

    Columns: ``device_class, tenant_id, priority, front`` (the id of its first job that ``fits``),
    ``level`` (its priority with the hours), ``num_running`` (jobs of its tenant).

    To be executed with ``device`` and ``Database.clock_values()``: building it takes longer than a claim may.
    """
    corners = _corners()
    found = (
        select(
            *(_LANE.c[name] for name in LANE),
            _front(fits).label("front"),
            _served_at().label("served_at"),
            _num_running().label("num_running"),
        )
        .join_from(corners, _LANE, _LANE.c.id == corners.c.id)
        .cte("found")
        # Materialised, since a planner that merged it with what follows would look several times.
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    since = case((found.c.served_at > _FRONT.c.queued_at, found.c.served_at), else_=_FRONT.c.queued_at)
    seconds = deferred_unix_now(is_sqlite=is_sqlite) - unix_of(since, is_sqlite=is_sqlite)
    level = (found.c.priority + cast(seconds, Integer) // AGEING_SECONDS).label("level")
    lane = [found.c[name] for name in LANE]
    return (
        select(*lane, found.c.front, level, found.c.num_running)
        .join_from(found, _FRONT, _FRONT.c.id == found.c.front)
        .order_by(level.desc(), found.c.num_running, found.c.front)
    )


def in_lane(job: FromClause, lane: Any) -> Sequence[ColumnElement[bool]]:
    """Whether ``job`` is queued in this lane: columns, or a row, that name it."""
    return (job.c.status == JobStatus.QUEUED, *_of_lane(job, lane))


def _of_lane(job: FromClause, lane: Any) -> Sequence[ColumnElement[bool]]:
    return [job.c[name] == getattr(lane, name) for name in LANE]


def _corners() -> CTE:
    """One job of each lane, by jumps from lane to lane in the index; ``DISTINCT`` would read all of it."""
    first = _next(_FIRST, _FIRST.c.device_class == _KINDS.c.name, _KINDS)
    corners = select(first.label("id")).select_from(_KINDS).cte("corners", recursive=True)
    beyond = tuple_(_AFTER.c.tenant_id, _AFTER.c.priority) > tuple_(_BEFORE.c.tenant_id, _BEFORE.c.priority)
    after = _next(_AFTER, (_AFTER.c.device_class == _BEFORE.c.device_class) & beyond, _BEFORE)
    return corners.union_all(select(after).join_from(corners, _BEFORE, _BEFORE.c.id == corners.c.id))


def _next(job: FromClause, wanted: ColumnElement[bool], outer: FromClause) -> Any:
    queued = select(job.c.id).where(job.c.status == JobStatus.QUEUED, wanted)
    first = queued.order_by(job.c.tenant_id, job.c.priority, job.c.id).limit(1)
    return first.correlate(outer).scalar_subquery()


def _front(fits: Condition) -> Any:
    waiting = select(_WAITING.c.id).where(*in_lane(_WAITING, _LANE.c), *fits(_WAITING))
    return waiting.order_by(_WAITING.c.id).limit(1).correlate(_LANE).scalar_subquery()


def _served_at() -> Any:
    """When the lane last got something, of what is still there."""
    at_all = select(_SERVED.c.served_at).where(*_of_lane(_SERVED, _LANE.c), _SERVED.c.served_at.is_not(None))
    return at_all.order_by(_SERVED.c.served_at.desc()).limit(1).correlate(_LANE).scalar_subquery()


def _num_running() -> Any:
    """Of the lane's tenant. All are counted once, since it may have many lanes, and many jobs running."""
    counted = (
        select(_RUNNING.c.tenant_id, func.count().label("number"))
        .where(_RUNNING.c.status == JobStatus.RUNNING)
        .group_by(_RUNNING.c.tenant_id)
        .cte("counted")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    of_tenant = select(counted.c.number).where(counted.c.tenant_id == _LANE.c.tenant_id)
    return func.coalesce(of_tenant.correlate(_LANE).scalar_subquery(), 0)
