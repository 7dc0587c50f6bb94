"""Places in the queue: the order in which workers would take what waits now, if nothing else happened."""

import heapq
from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, func, select

from models.database import Database
from models.job_store.fence import JobRow
from models.job_store.lanes import LANE, in_lane, lanes
from models.tables import jobs

#: Places beyond this are not counted: the cost of a page must not grow with the queue.
COUNTED_PLACES = 1000
#: Of a lane's jobs behind its front: few at first, since of many lanes only a few jobs are reached.
_FIRST_ROWS, _MORE_ROWS = 25, 500
# Built once: building a statement takes longer than the database needs for it.
_IN_LANE = in_lane(jobs, SimpleNamespace(**{name: bindparam(name) for name in LANE}))
_BEYOND_REACH = (
    select(jobs.c.id).where(*_IN_LANE).order_by(jobs.c.id).offset(bindparam("places", type_=Integer)).limit(1)
)
_NUMBERED = (
    select(jobs.c.id, func.row_number().over(order_by=jobs.c.id).label("place"))
    .where(*_IN_LANE)
    .order_by(jobs.c.id)
    .limit(COUNTED_PLACES)
    .subquery()
)
_PLACES = select(_NUMBERED).where(_NUMBERED.c.id.in_(bindparam("wanted", expanding=True)))
_BEHIND = (
    select(jobs.c.id)
    .where(*_IN_LANE, jobs.c.id > bindparam("after"))
    .order_by(jobs.c.id)
    .limit(bindparam("size", type_=Integer))
)


def queue_places(tx: Connection, db: Database, device: str, wanted: Collection[str]) -> dict[str, int]:
    """By id, for those of the queued jobs ``wanted`` that a worker of ``device`` would reach; 1 is next."""
    if not wanted:
        return {}
    waiting = tx.execute(lanes(db.is_sqlite), {"device": device, **db.clock_values()}).all()
    if len(waiting) == 1:
        return _places_in(tx, waiting[0], wanted)
    places: dict[str, int] = {}
    for place, job_id in enumerate(_in_order(tx, waiting), start=1):
        if job_id in wanted:
            places[job_id] = place
        if len(places) == len(wanted) or place == COUNTED_PLACES:
            break
    return places


def within_reach(tx: Connection, rows: Sequence[JobRow]) -> set[str]:
    """Those of the queued ``rows`` that have not too many ahead in their own lane.

    Most of a long queue need not be looked for any further.
    """
    wanted: set[str] = set()
    by_lane: dict[tuple[str, str, int], list[JobRow]] = {}
    for row in rows:
        by_lane.setdefault((row.device_class, row.tenant_id, row.priority), []).append(row)
    for of_lane in by_lane.values():
        beyond = tx.execute(_BEYOND_REACH, {**_values(of_lane[0]), "places": COUNTED_PLACES}).scalar()
        wanted |= {row.id for row in of_lane if beyond is None or row.id < beyond}
    return wanted


def _places_in(tx: Connection, lane: Any, wanted: Collection[str]) -> dict[str, int]:
    """Where there is one lane alone, as in most installations, its order is that of the ids."""
    found = tx.execute(_PLACES, {**_values(lane), "wanted": list(wanted)})
    return {row.id: row.place for row in found}


def _in_order(tx: Connection, waiting: Sequence[Any]) -> Iterator[str]:
    """The rule of :mod:`models.job_store.lanes`, told on as if each job ran that was named before.

    A lane's level falls to its own priority with its first job, and its tenant has one more running; both
    only set lanes back, so that an entry of the heap that is out of date can be put where it belongs now.
    """
    running = {lane.tenant_id: lane.num_running for lane in waiting}
    heap = [(-lane.level, lane.num_running, lane.front, number) for number, lane in enumerate(waiting)]
    rest = [_behind_front(tx, lane) for lane in waiting]
    heapq.heapify(heap)
    while heap:
        level, num_running, job_id, number = heap[0]
        lane = waiting[number]
        if num_running != running[lane.tenant_id]:
            heapq.heapreplace(heap, (level, running[lane.tenant_id], job_id, number))
            continue
        yield job_id
        running[lane.tenant_id] += 1
        following = next(rest[number], None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (-lane.priority, running[lane.tenant_id], following, number))


def _values(lane: Any) -> dict[str, Any]:
    return {name: getattr(lane, name) for name in LANE}


def _behind_front(tx: Connection, lane: Any) -> Iterator[str]:
    after, size = lane.front, _FIRST_ROWS
    while True:
        ids = list(tx.execute(_BEHIND, {**_values(lane), "after": after, "size": size}).scalars())
        yield from ids
        if len(ids) < size:
            return
        after, size = ids[-1], _MORE_ROWS
