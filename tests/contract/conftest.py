"""Every test that takes ``db`` runs on SQLite and on PostgreSQL, each time on an empty database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from models import migrate
from models.database import Database
from models.tables import metadata
from tests.contract.invariants import check_invariants
from tests.contract.world import World
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def shared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    yield from _migrated(f"sqlite:///{tmp_path_factory.mktemp('contract') / 'perdure.db'}")


@pytest.fixture(scope="session")
def shared_postgresql(postgres: PostgresServer) -> Iterator[Database]:
    yield from _migrated(postgres.create_database())


def _migrated(url: str) -> Iterator[Database]:
    """Emptied for each test, not made anew: that keeps its compiled statements, too."""
    db = Database(url, pool_size=10)
    migrate.upgrade(db)
    yield db
    db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Whatever a test did, the invariants hold after it."""
    database: Database = request.getfixturevalue(f"shared_{request.param}")
    with database.writing() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(delete(table))
    yield database
    check_invariants(database)


@pytest.fixture
def world(db: Database) -> World:
    return World(db)
