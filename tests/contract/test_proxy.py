"""The proxy that breaks networks for other tests breaks exactly what it says."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.waiting import until


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again whatever it hears."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while heard := connection.recv(4096):
                    connection.sendall(heard)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def connected(proxy: Proxy, patience_seconds: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=patience_seconds)


def answer_to(client: socket.socket, word: bytes) -> bytes:
    client.sendall(word)
    return client.recv(100)


def test_it_passes_what_is_said(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as other:
        assert answer_to(one, b"one") == b"one"
        assert answer_to(other, b"other") == b"other"
        assert proxy.num_connections == 2
    until(lambda: proxy.num_connections == 0, what="the links to go with their clients")


@pytest.mark.parametrize("direction", ["both", "to_server", "to_client"])
def test_a_blackhole_keeps_connections_and_swallows_words(proxy: Proxy, direction: Any) -> None:
    with connected(proxy) as client:
        assert answer_to(client, b"before") == b"before"
        proxy.blackhole(direction)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            answer_to(client, b"held")
        with connected(proxy, 0.3) as late, pytest.raises(TimeoutError):
            answer_to(late, b"nobody")
        proxy.heal()
        client.settimeout(5.0)
        assert client.recv(100) == b"held", "late, but whole"


def test_healing_may_find_the_old_connections_dead(proxy: Proxy) -> None:
    with connected(proxy) as old:
        assert answer_to(old, b"before") == b"before"
        proxy.blackhole()
        old.sendall(b"lost")
        proxy.heal(cut=True)
        with pytest.raises(ConnectionResetError):
            old.recv(100)
        with connected(proxy) as new:
            assert answer_to(new, b"again") == b"again"


def test_refusal_cuts_and_lets_nobody_in(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert answer_to(client, b"before") == b"before"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.heal()
    with connected(proxy) as client:
        assert answer_to(client, b"after") == b"after"


def test_delay_holds_up_both_ways(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.delay(0.1)
        began = time.monotonic()
        assert answer_to(client, b"slowly") == b"slowly"
        assert 0.2 <= time.monotonic() - began < 2.0


def test_a_lost_reply_belongs_to_a_commit_that_happened(postgres: PostgresServer) -> None:
    name = postgres.create_database().rpartition("/")[2]
    postgres.execute("CREATE TABLE t (word TEXT)", database=name)
    with Proxy(postgres.port) as proxy:

        def insert(word: str) -> None:
            with psycopg.connect(f"host=127.0.0.1 port={proxy.port} user=postgres dbname={name}") as client:
                client.execute("INSERT INTO t VALUES (%s)", [word])

        proxy.drop_reply_after(b"INSERT", b"marked", without=b"spared")
        insert("plain")
        insert("marked, spared")
        with pytest.raises(psycopg.OperationalError):
            insert("marked")
        assert proxy.num_lost_replies == 1
        insert("marked")
        words = [word for (word,) in postgres.execute("SELECT word FROM t", database=name)]
        assert words == ["plain", "marked, spared", "marked", "marked"]
