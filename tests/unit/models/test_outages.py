"""A database that is away, or behind, is told of in one short line with what to do."""

from pathlib import Path

import pytest
import structlog

from models import job_store
from models.database import Database
from models.errors import DatabaseUnavailable, SchemaBehind
from models.outages import Outages
from models.reconciler import Reconciler
from models.settings import Settings


def failure_of(db: Database) -> DatabaseUnavailable:
    with pytest.raises(DatabaseUnavailable) as raised:
        job_store.list_jobs(db)
    return raised.value


def test_a_reason_is_a_line_without_the_statement(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/no/such/folder.db")
    assert failure_of(db).reason == "unable to open database file"
    db.close()


def test_a_database_without_tables_says_what_to_do(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/empty.db")
    failure = failure_of(db)
    assert isinstance(failure, SchemaBehind) and failure.code == "schema_behind"
    assert failure.reason.endswith("run `perdure migrate`.")
    db.close()


def test_it_is_told_once_and_so_is_its_end() -> None:
    outages = Outages("someone")
    with structlog.testing.capture_logs() as logs:
        for error in (DatabaseUnavailable(), DatabaseUnavailable(), SchemaBehind(), SchemaBehind()):
            outages.away(error)
        for _ in range(3):
            outages.over()
        outages.away(DatabaseUnavailable())
    told = [(line["event"], line.get("code")) for line in logs]
    away, behind = "database_unavailable", "schema_behind"
    assert told == [
        ("someone.database_away", away), ("someone.database_away", behind),
        ("someone.database_back", None), ("someone.database_away", away),
    ]  # fmt: skip


def test_a_reconciler_does_not_repeat_itself(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/empty.db")
    reconciler = Reconciler(db, Settings(home=tmp_path), on_claimable=lambda _: None)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            reconciler.tick()
    [line] = logs
    assert "perdure migrate" in line["error"] and "SELECT" not in str(line)
    db.close()
