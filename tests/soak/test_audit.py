"""The database's witness: silent about the holder of a job, not about a worker that was superseded."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models import job_store, migrate
from models.database import Database
from models.host import ProcessId
from tests.contract.world import World, owner, position, spec, step_row
from tests.servers.postgres import PostgresServer
from tests.soak.audit import Audit, zombie_writes

#: The second has the number of the first, which is gone by then.
FIRST, SECOND = ProcessId(1001, 1.0), ProcessId(1001, 2.0)
ACCOUNTS = {FIRST: "first_worker", SECOND: "second_worker"}


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)
    for account in ACCOUNTS.values():
        postgres.execute(f"DROP ROLE {account}")


def test_a_write_by_a_zombie_is_told_though_it_was_written_over_and_bears_the_holders_attempt(
    postgres: PostgresServer, url: str
) -> None:
    migrate.upgrade(db := Database(url))
    audit = Audit(postgres, url.rpartition("/")[2], ACCOUNTS.values())
    urls = [db.engine.url.set(username=account) for account in ACCOUNTS.values()]
    first, second = (World(Database(url.render_as_string(hide_password=False))) for url in urls)

    def found() -> list[Any]:
        return [(w["writer"], w["what"], w["attempt"]) for w in zombie_writes(audit.writes(), ACCOUNTS)]

    job_id = str(job_store.create_job(first.db, spec()).job.id)
    zombie = first.claimed(replace(owner("wrk_1"), process=FIRST)).fence
    first.prepare(zombie)
    first.commit(zombie, 2, steps=[step_row(1), step_row(2)])
    first.lose(job_id)
    holder = second.claimed(replace(owner("wrk_2"), process=SECOND)).fence
    second.prepare(holder, step=2)
    job_store.record_metrics(second.db, holder, [step_row(3)], position(3))
    assert len(audit.writes()) == 4
    assert found() == []

    # As if no fence had stopped the first worker: what it writes looks like the second one's.
    job_store.record_metrics(first.db, holder, [step_row(3)], position(3))
    job_store.record_metrics(second.db, holder, [step_row(3)], position(3))
    assert found() == [("first_worker", "step_metrics", 2)]
    for each in (db, first.db, second.db):
        each.close()
