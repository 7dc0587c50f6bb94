"""The database's own witness of fencing: who wrote each row, and who held the job at that instant.

Rows alone do not tell. What a zombie wrote beyond the last commit is replaced by the replay; and a row's
attempt is what the store found in the job's row, which would be the holder's if nobody had asked whose it is.
So the writer is known by the account it connects with.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from models.host import ProcessId
from tests.servers.postgres import PostgresServer

#: In the writer's own transaction, so that a write that is rolled back is not held against anybody.
_INSTALL = """
CREATE TABLE soak_writes (
    written_at timestamptz NOT NULL, writer text NOT NULL, what text NOT NULL, job_id text NOT NULL,
    attempt int NOT NULL, holder int NOT NULL, status text NOT NULL, holder_pid int, holder_started_at float8
);
CREATE FUNCTION soak_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO soak_writes
        SELECT clock_timestamp(), session_user, TG_TABLE_NAME,
            id, NEW.attempt, attempt, status, owner_pid, owner_started_at
        FROM jobs WHERE id = NEW.job_id;
    RETURN NULL;
END $$;
CREATE TRIGGER soak_witness AFTER INSERT OR UPDATE OF attempt ON step_metrics
    FOR EACH ROW EXECUTE FUNCTION soak_witness();
CREATE TRIGGER soak_witness AFTER INSERT OR UPDATE OF attempt ON epoch_metrics
    FOR EACH ROW EXECUTE FUNCTION soak_witness();
CREATE TRIGGER soak_witness AFTER INSERT ON checkpoints
    FOR EACH ROW EXECUTE FUNCTION soak_witness();
"""
_COLUMNS = (
    "written_at", "writer", "what", "job_id", "attempt", "holder", "status",
    "holder_pid", "holder_started_at",
)  # fmt: skip
_WRITES = f"SELECT {', '.join(_COLUMNS)} FROM soak_writes ORDER BY written_at"


class Audit:
    """Of every metrics row and checkpoint that was put into one database, by whichever account."""

    def __init__(self, server: PostgresServer, database: str, accounts: Iterable[str]) -> None:
        """``database`` is migrated and has nothing in it; ``accounts`` are made, and may do everything."""
        self._server, self._database = server, database
        server.execute(_INSTALL, database=database)
        for account in accounts:
            server.execute(f"CREATE ROLE {account} SUPERUSER LOGIN")

    def writes(self) -> list[dict[str, Any]]:
        """Those that were accepted, in their order."""
        rows = self._server.execute(_WRITES, database=self._database)
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


def zombie_writes(writes: list[dict[str, Any]], accounts: Mapping[ProcessId, str]) -> list[dict[str, Any]]:
    """Those by a worker, or under an attempt, that did not hold the job; ``accounts`` are by process.

    Its number alone does not tell a process: in half an hour of kills numbers are used again.
    """
    return [
        write
        for write in writes
        if write["writer"] != accounts.get(ProcessId(write["holder_pid"], write["holder_started_at"]))
        or write["attempt"] != write["holder"]
        or write["status"] != "running"
    ]
