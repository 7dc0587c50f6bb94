"""Databases that go away, come back, or are held by somebody who froze (faults 16 and 27)."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text, update

import models.database
import models.postgres
from models import job_store, migrate
from models.database import Database
from models.errors import DatabaseUnavailable, LeaseLost
from models.settings import Settings
from models.tables import jobs
from tests.contract.invariants import check_invariants
from tests.contract.world import LEASE, WEIGHTS, World, at_once, position, step_row
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.waiting import until


@pytest.fixture
def outside(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A database of its own on a server that may be stopped, with shorter patience than in production."""
    url = postgres.create_database()
    patient = Database(url)
    migrate.upgrade(patient)  # a busy machine may pause for a second in the middle of it
    patient.close()
    monkeypatch.setattr(models.database, "IDLE_IN_TRANSACTION_SECONDS", 1)
    monkeypatch.setattr(models.database, "LOCK_TIMEOUT_SECONDS", 4)
    db = Database(url)
    yield World(db)
    if not postgres.is_running:
        postgres.start()
    check_invariants(db)
    db.close()


OPERATIONS: dict[str, Callable[[World, Any], Any]] = {
    "read": lambda world, fence: world.job(fence.job_id),
    "renew": lambda world, fence: job_store.renew(world.db, fence, LEASE),
    "claim": lambda world, fence: world.claim(),
    "submit": lambda world, fence: world.submit(),
    "metrics": lambda world, fence: job_store.record_metrics(world.db, fence, [step_row(1)], position(1)),
    "commit": lambda world, fence: world.commit(fence, 10),
    "finish": lambda world, fence: job_store.finish(world.db, fence, WEIGHTS),
    "expire": lambda world, fence: world.expire(),
    "cancel": lambda world, fence: job_store.cancel(world.db, fence.job_id),
    "ping": lambda world, fence: world.db.ping(),
}


@pytest.mark.parametrize("how", ["stop", "stop_immediately", "kill"])
def test_a_server_that_goes_and_comes_back(outside: World, postgres: PostgresServer, how: str) -> None:
    """Typed while it is away; back on the same port the same objects work, and nothing was lost."""
    fence = outside.running()
    outside.commit(fence, 5, steps=[step_row(5)])
    before = outside.dump()
    getattr(postgres, how)()
    for name, operation in OPERATIONS.items():
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            operation(outside, fence)
        assert time.monotonic() - began < 5.0, name
    postgres.start()
    assert outside.dump() == before
    assert job_store.renew(outside.db, fence, LEASE)
    outside.commit(fence, 10)
    job_store.finish(outside.db, fence, WEIGHTS)


def test_a_restart_that_nobody_was_there_to_see(outside: World, postgres: PostgresServer) -> None:
    """Idle connections of the pool are all dead then; the next caller must not pay for it."""
    fence = outside.running()
    at_once(*[lambda: outside.job(fence.job_id)] * 5)
    postgres.restart()
    assert job_store.renew(outside.db, fence, LEASE)
    for _ in range(5):
        assert outside.job(fence.job_id).status == "running"


def test_writes_in_flight_when_the_server_dies(outside: World, postgres: PostgresServer) -> None:
    """Each is there whole or not at all, and its caller learns at worst that it does not know."""
    fence = outside.running()
    confirmed: list[int] = []
    done = threading.Event()
    unexpected: list[BaseException] = []

    def train() -> None:
        for step in range(1, 100_000):
            while not done.is_set():
                try:
                    outside.commit(fence, step, steps=[step_row(step)], keep_last=10)
                except DatabaseUnavailable:
                    continue
                except BaseException as error:  # noqa: BLE001
                    unexpected.append(error)
                    return
                confirmed.append(step)
                break
            if done.is_set():
                return

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(3):
            seen = len(confirmed)
            until(lambda seen=seen: len(confirmed) > seen + 5 or unexpected, what="more commits", seconds=30)
            postgres.kill()
            postgres.start()
        seen = len(confirmed)
        until(lambda: len(confirmed) > seen or unexpected, what="commits after the last kill", seconds=30)
    finally:
        done.set()
        trainer.join(30)
    assert unexpected == []
    rows = job_store.step_metrics(outside.db, fence.job_id, limit=100_000)
    assert set(confirmed) <= {row.step for row in rows}, "what was confirmed survives"
    assert outside.job(fence.job_id).committed_step >= confirmed[-1]


def test_a_connection_that_is_cut_in_a_transaction(outside: World, postgres: PostgresServer) -> None:
    fence = outside.running()
    with pytest.raises(DatabaseUnavailable), outside.db.writing() as tx:
        tx.execute(update(jobs).values(step=99))
        me = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postgres.execute("SELECT pg_terminate_backend(%s)", me)
        tx.execute(select(jobs))
    assert outside.job(fence.job_id).step == 0
    assert job_store.renew(outside.db, fence, LEASE)


def test_a_deadlock_is_one_callers_bad_luck(outside: World) -> None:
    first, second = outside.submit(), outside.submit()
    met = threading.Barrier(2)

    def cross(one: str, other: str) -> None:
        with outside.db.writing() as tx:
            job_store.fence.locked(tx, one)
            met.wait(10)
            job_store.fence.locked(tx, other)

    answers = at_once(lambda: cross(first, second), lambda: cross(second, first))
    assert sorted(type(answer).__name__ for answer in answers) == ["DatabaseUnavailable", "NoneType"]


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_server_that_takes_every_byte_and_never_answers(
    outside: World, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    """No keepalive tells of a frozen server, or of a partition behind a proxy."""
    monkeypatch.setattr(models.postgres, "ANSWER_SECONDS", 0.5)
    with Proxy(postgres.port) as proxy:
        db = Database(outside.db.engine.url.set(port=proxy.port).render_as_string(hide_password=False))
        db.ping()
        proxy.blackhole(direction)
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            db.ping()
        assert 0.4 < time.monotonic() - began < 8.0, "the pool may try a new connection, too"
        proxy.heal()
        db.ping()
        with db.reading() as tx:
            assert tx.execute(text("SELECT 17")).scalar_one() == 17, "no late answer is taken for another's"
        db.close()


def test_nobody_listens() -> None:
    db = Database(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        db.ping()
    assert time.monotonic() - began < 5.0


# -- Frozen holders ----------------------------------------------------------------------------------

HOLDER = """
import sys, models.database
models.database.IDLE_IN_TRANSACTION_SECONDS = 3
from models.database import Database
from models.errors import DatabaseUnavailable
from models.job_store.fence import Fence, holding
from models.tables import jobs
from sqlalchemy import update
url, job_id = sys.argv[1:]
try:
    with Database(url).writing() as tx:
        holding(tx, Fence(job_id, 1))
        tx.execute(update(jobs).values(step=666))
        print("holds", flush=True)
        sys.stdin.readline()
except DatabaseUnavailable:
    print("lost it", flush=True)
else:
    print("wrote", flush=True)
"""


def test_who_freezes_in_a_transaction_blocks_nobody_for_long(
    outside: World, postgres: PostgresServer
) -> None:
    fence = outside.running(lease=-1.0)
    url = outside.db.engine.url.render_as_string(hide_password=False)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, fence.job_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        holder.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert outside.claim() is None, "whoever looks for other work does not wait"
        assert outside.expire() == [], "nor does a reconciler: the row is busy"
        assert time.monotonic() - began < 2.9
        job_store.cancel(outside.db, fence.job_id)
        assert time.monotonic() - began < 8.0, "the holder's session was ended by the server"
        assert outside.expire() == [fence.job_id]
        holder.send_signal(signal.SIGCONT)
        said, _ = holder.communicate("\n", timeout=30)
        assert said == "lost it\n"
    finally:
        holder.kill()
        holder.communicate()
    job = outside.job(fence.job_id)
    assert (job.status, job.step) == ("cancelled", 0)
    with pytest.raises(LeaseLost):
        job_store.renew(outside.db, fence, LEASE)


def test_in_production_the_server_ends_it_well_within_a_lease() -> None:
    half = Settings().lease_seconds / 2
    assert half >= models.database.IDLE_IN_TRANSACTION_SECONDS
    assert half >= models.database.LOCK_TIMEOUT_SECONDS


@pytest.fixture
def sqlite_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(models.database, "SQLITE_BUSY_SECONDS", 0.3)
    db = Database(f"sqlite:///{tmp_path / 'perdure.db'}")
    migrate.upgrade(db)
    yield World(db)
    check_invariants(db)
    db.close()


def test_sqlite_held_by_another_is_unavailable_and_then_back(sqlite_world: World) -> None:
    fence = sqlite_world.running()
    other = create_engine(sqlite_world.db.engine.url)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable):
            job_store.renew(sqlite_world.db, fence, LEASE)
        assert sqlite_world.job(fence.job_id).status == "running", "readers are not held up"
        connection.rollback()
    other.dispose()
    assert job_store.renew(sqlite_world.db, fence, LEASE)


def test_sqlite_is_durable_and_strict(sqlite_world: World) -> None:
    for transaction in (sqlite_world.db.writing, sqlite_world.db.reading):
        with transaction() as tx:
            pragmas = {
                name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_sqlite_on_a_full_disk_changes_nothing(sqlite_world: World) -> None:
    fence = sqlite_world.running()
    before = sqlite_world.dump()
    rows = [step_row(n) for n in range(1, 1001)]
    with pytest.raises(DatabaseUnavailable), sqlite_world.db.writing() as tx:
        job = job_store.fence.holding(tx, fence)
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        job_store.progress.put_step_rows(tx, sqlite_world.db, job, rows)
    sqlite_world.db.close()
    assert sqlite_world.dump() == before
    job_store.record_metrics(sqlite_world.db, fence, rows, position(1000))


def test_sqlite_where_no_folder_is() -> None:
    with pytest.raises(DatabaseUnavailable):
        Database("sqlite:////nonexistent/folder/perdure.db").ping()
