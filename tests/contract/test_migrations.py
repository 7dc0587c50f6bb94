"""The migrations make exactly the tables that the code declares, on both databases."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text, update

from models import job_store, migrate
from models.database import Database
from models.errors import SchemaBehind
from models.tables import jobs, metadata
from tests.contract.world import World, spec
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

NewDatabase = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewDatabase]:
    """Empty databases."""
    made: list[Database] = []

    def make() -> Database:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / f'{len(made)}.db'}"
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.create_database()
        made.append(Database(url))
        return made[-1]

    yield make
    for db in made:
        db.close()


@pytest.fixture
def empty(new_database: NewDatabase) -> Database:
    return new_database()


@pytest.fixture
def migrated(empty: Database) -> Database:
    migrate.upgrade(empty)
    return empty


def shape(connection: Connection) -> dict[str, Any]:
    """Everything that the database itself tells of its tables."""
    look = inspect(connection)
    tables = [name for name in look.get_table_names() if name != "alembic_version"]
    return {
        table: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)
            ],
            "checks": {c["name"]: c["sqltext"] for c in look.get_check_constraints(table)},
            "primary key": look.get_pk_constraint(table),
            "foreign keys": sorted(map(repr, look.get_foreign_keys(table))),
            "unique": sorted(map(repr, look.get_unique_constraints(table))),
            "indexes": sorted(map(_index, look.get_indexes(table))),
        }
        for table in tables
    }


def _index(found: Any) -> str:
    options = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return repr(found | {"dialect_options": options})


def shape_of(db: Database) -> dict[str, Any]:
    with db.reading() as tx:
        return shape(tx)


def test_alembic_finds_no_difference(migrated: Database) -> None:
    with migrated.reading() as tx:
        context = MigrationContext.configure(
            tx, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, metadata) == []


def test_nor_does_the_database_itself(migrated: Database, new_database: NewDatabase) -> None:
    """Names and words of CHECK constraints, defaults and partial indexes too, which Alembic overlooks."""
    declared = new_database()
    metadata.create_all(declared.engine)
    by_migration, by_code = shape_of(migrated), shape_of(declared)
    assert set(by_migration) == set(by_code) == set(metadata.tables)
    for table in by_code:
        assert by_migration[table] == by_code[table], table
    assert by_code["jobs"]["checks"], "the comparison sees constraints"


def test_partial_indexes_stay_partial(migrated: Database) -> None:
    """The claim must not walk through finished jobs; inspection of SQLite does not show the condition."""
    master = "SELECT sql FROM sqlite_master WHERE name = :name"
    catalogue = "SELECT indexdef FROM pg_indexes WHERE indexname = :name"
    with migrated.reading() as tx:
        for name, condition in (
            ("ix_jobs_claimable", "queued"),
            ("ix_jobs_served", "served_at"),
            ("ix_jobs_running", "running"),
            ("ix_jobs_leases", "running"),
        ):
            said = tx.execute(text(master if migrated.is_sqlite else catalogue), {"name": name}).scalar_one()
            assert "WHERE" in said and condition in said


def test_every_constraint_has_a_name_of_its_own(migrated: Database) -> None:
    """So that a later migration can change it."""
    for table, parts in shape_of(migrated).items():
        assert parts["primary key"]["name"] == f"pk_{table}"
        for name in parts["checks"]:
            assert name is not None and name.startswith(f"ck_{table}_")


def test_an_upgrade_of_what_is_current_changes_nothing(migrated: Database) -> None:
    world = World(migrated)
    world.submit()
    before = world.dump(), shape_of(migrated)
    migrate.upgrade(migrated)
    assert (world.dump(), shape_of(migrated)) == before


def test_processes_that_upgrade_at_once_take_turns(empty: Database) -> None:
    url = empty.engine.url.render_as_string(hide_password=False)
    runs = [start_migrate(PERDURE_DATABASE_URL=url) for _ in range(3)]
    assert [(run.communicate(timeout=60)[1], run.returncode) for run in runs] == [("", 0)] * 3
    assert migrate.schema_state(empty) == "current"


def test_down_and_up_again(migrated: Database) -> None:
    before = shape_of(migrated)
    config = migrate._config()
    config.attributes["database"] = migrated
    command.downgrade(config, "base")
    assert shape_of(migrated) == {}
    assert migrate.schema_state(migrated) == "missing"
    migrate.upgrade(migrated)
    assert shape_of(migrated) == before


def test_jobs_of_before_are_found_by_their_metadata(migrated: Database) -> None:
    metadata = {"team": "vision", "ä'": "%"}
    made = World(migrated).submit(metadata=metadata)
    config = migrate._config()
    config.attributes["database"] = migrated
    command.downgrade(config, "0004")
    migrate.upgrade(migrated)
    assert [row.id for row in job_store.list_jobs(migrated, metadata=metadata)] == [made]


def test_an_upgrade_that_fails_leaves_nothing(empty: Database) -> None:
    """One transaction: a table that is in the way undoes the tables that were made before it."""
    with empty.writing() as tx:
        tx.execute(text("CREATE TABLE step_metrics (x INTEGER)"))
    with pytest.raises(Exception) as failure:
        migrate.upgrade(empty)
    assert "step_metrics" in f"{failure.value} {failure.value.__cause__}"
    assert set(shape_of(empty)) == {"step_metrics"}
    assert migrate.schema_state(empty) == "missing"


def test_a_database_that_nobody_migrated_says_so(empty: Database) -> None:
    with pytest.raises(SchemaBehind):
        job_store.list_jobs(empty)


def test_schema_states(empty: Database) -> None:
    assert migrate.schema_state(empty) == "missing"
    migrate.upgrade(empty)
    assert migrate.schema_state(empty) == "current"
    with empty.writing() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert migrate.schema_state(empty) == "behind"


def test_the_application_works_on_what_the_migrations_made(migrated: Database) -> None:
    job_id = job_store.create_job(migrated, spec()).job.id
    with migrated.writing() as tx:
        tx.execute(update(jobs).values(name="iris"))
    assert job_store.list_jobs(migrated, name="iris")[0].id == job_id


def start_migrate(**environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "models.migrate"],
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command(tmp_path: Path) -> None:
    run = start_migrate(PERDURE_HOME=str(tmp_path / "home"))
    assert (run.communicate(timeout=60)[1], run.returncode) == ("", 0)
    db = Database(f"sqlite:///{tmp_path / 'home/perdure.db'}")
    assert migrate.schema_state(db) == "current"
    db.close()


def test_the_command_without_a_database(tmp_path: Path) -> None:
    url = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/postgres"
    run = start_migrate(PERDURE_DATABASE_URL=url, PERDURE_HOME=str(tmp_path))
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "does not answer" in said
    assert "Traceback" not in said and "secret" not in said
