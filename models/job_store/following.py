"""Reading the stream: what came after a number, for one job or for many at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import and_, or_, select

from models.database import Database
from models.job_state import FINISHED
from models.job_store.fence import JobRow
from models.tables import jobs, stream


@dataclass(frozen=True)
class News:
    """Of one job: its lines after a number, in order, and whether there will be more."""

    lines: list[JobRow]
    last: int  #: the job's last number; more than that of the last line where a limit cut them off
    is_finished: bool  #: no line follows ``last`` unless somebody asks for it


def stream_news(db: Database, positions: Mapping[str, int], *, limit: int) -> dict[str, News]:
    """By job id, what follows its number in ``positions``; ``limit`` lines at most of all jobs together.

    A job that is gone is missing. Costs one look at the jobs' rows where nothing is new.
    """
    heads = select(jobs.c.id, jobs.c.status, jobs.c.stream_count).where(jobs.c.id.in_(positions))
    with db.reading() as tx:
        found = {row.id: row for row in tx.execute(heads)}
        lines: dict[str, list[JobRow]] = {job_id: [] for job_id in found}
        wanted = [
            and_(
                stream.c.job_id == job_id,
                # Never beyond the number that was read above: a line that came since may follow the end.
                stream.c.sequence.between(positions[job_id] + 1, row.stream_count),
            )
            for job_id, row in found.items()
            if row.stream_count > positions[job_id]
        ]
        if wanted:
            in_order = select(stream).where(or_(*wanted)).order_by(stream.c.job_id, stream.c.sequence)
            for line in tx.execute(in_order.limit(limit)):
                lines[line.job_id].append(line)
    return {
        job_id: News(lines[job_id], row.stream_count, row.status in FINISHED) for job_id, row in found.items()
    }
