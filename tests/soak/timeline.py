"""What happened to one job and around it: its events and its ledger among the faults, by the clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from models.database import Database
from models.tables import attempts, events
from tests.soak.history import Entry

#: Entries of a history that are about the whole installation.
_AROUND = {"fault", "thawed", "restarted", "faults_begin", "faults_end"}
#: What every entry has.
_FRAME = {"at", "unix", "kind"}
#: Of faults before the job began and after it ended.
_MARGIN = timedelta(seconds=10)


def timeline(history: list[Entry], db: Database, job_id: str) -> list[str]:
    """One line each, in their order; empty for a job that the database does not know."""
    with db.reading() as tx:
        told = tx.execute(select(events).where(events.c.job_id == job_id)).all()
        ledger = tx.execute(select(attempts).where(attempts.c.job_id == job_id)).all()
    if not told:
        return []
    lines = [(e.created_at, f"job     {e.type} (attempt {e.attempt}): {e.message}") for e in told]
    lines += [
        (line.ended_at, f"ledger  attempt {line.attempt} of worker {line.worker_pid} ended: {line.end_cause}")
        for line in ledger
        if line.ended_at is not None
    ]
    first, last = min(at for at, _ in lines), max(at for at, _ in lines)
    for entry in history:
        at = datetime.fromtimestamp(entry["unix"], UTC)
        mine = entry.get("job_id") == job_id
        near = first - _MARGIN < at < last + _MARGIN
        if mine or (near and entry["kind"] in _AROUND):
            lines.append((at, f"{'client' if mine else 'fault '}  {entry['kind']} {_rest(entry)}"))
    return [f"{at:%H:%M:%S.%f}  {what}" for at, what in sorted(lines)]


def _rest(entry: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in entry.items() if name not in _FRAME | {"job_id"})
