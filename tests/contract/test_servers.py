"""The servers that other tests rely on: what was confirmed stays, and nothing is left behind."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from models.host import ProcessId
from tests.servers.folders import server_folder
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import until


def test_postgres_keeps_data_and_address_over_any_end(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    with postgres.connect(name) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    for number, end in enumerate((postgres.stop, postgres.stop_immediately, postgres.kill)):
        with postgres.connect(name) as connection:
            connection.execute("INSERT INTO t VALUES (%s)", [number])
        end()
        assert not postgres.is_running
        with pytest.raises(psycopg.OperationalError):
            postgres.connect(name)
        postgres.start()
        assert postgres.url_of(name) == url
        assert postgres.execute("SELECT count(*) FROM t", database=name) == [(number + 1,)]


def test_a_frozen_postgres_takes_connections_and_says_nothing(postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        with postgres.frozen(), pytest.raises(psycopg.OperationalError):
            began = time.monotonic()
            postgres.connect(patience_seconds=2)
        assert time.monotonic() - began >= 1.9, "it was not refused"
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_valkey_keeps_its_queue_over_a_kill(tcp: bool) -> None:
    with ValkeyServer(tcp=tcp) as server:
        url = server.url
        for number in range(1, 4):
            assert server.command("RPUSH", "queue", "bell") == b":%d" % number
            server.kill()
            assert not server.is_running
            with pytest.raises(OSError):
                server.command("PING")
            server.start()
            assert (server.url, server.command("LLEN", "queue")) == (url, b":%d" % number)


SERVED = """
import time
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
postgres, valkey = PostgresServer(), ValkeyServer()
postgres.start()
valkey.start()
print(postgres._process.pid, valkey._process.pid, postgres.folder, valkey.folder, flush=True)
time.sleep(600)
"""


def test_servers_die_with_the_tests_that_started_them() -> None:
    tests = subprocess.Popen(
        [sys.executable, "-c", SERVED], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    try:
        assert tests.stdout is not None
        postgres, valkey, *folders = tests.stdout.readline().split()
        servers = [ProcessId.of(int(postgres)), ProcessId.of(int(valkey))]
        assert all(server.is_alive() for server in servers)
    finally:
        tests.kill()
        tests.communicate()
    until(lambda: not any(server.is_alive() for server in servers), what="the servers to be gone")
    for kind in ("postgres", "valkey"):
        server_folder(kind).rmdir()
    assert not any(Path(folder).exists() for folder in folders), "the next to come sweep up"
