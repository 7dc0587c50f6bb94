"""What is told of a job, in one order: lines that are written once and never changed.

The rows of other tables are replaced (a step that is done again), taken back (a rollback) and completed
(an attempt that ends). Here stays what was told of them: whoever reads again from a number reads the same.
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, String, Table

from models.columns import Id, Instant, Json, metadata, one_of
from models.job_state import StreamKind

#: ``sequence`` is numbered by ``jobs.stream_count``, under the lock of the job's row, without gaps.
stream = Table(
    "stream",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("data", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(one_of("kind", StreamKind), name="kind_known"),
)
