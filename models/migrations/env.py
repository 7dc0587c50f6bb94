"""How Alembic reaches the database: through the one that `models.migrate` passes in."""

from alembic import context
from sqlalchemy import text

from models.database import Database
from models.tables import jobs

#: Two processes that migrate at once take turns (any constant will do).
_ADVISORY_LOCK = 7_233_473


def _run() -> None:
    db: Database = context.config.attributes["database"]
    with db.writing() as connection:
        if not db.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        context.configure(connection=connection, target_metadata=jobs.metadata, render_as_batch=db.is_sqlite)
        with context.begin_transaction():
            context.run_migrations()


_run()
