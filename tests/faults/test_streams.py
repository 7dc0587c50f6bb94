"""Fault 34 for those who follow a job: the API stops and is killed, and nobody misses or repeats a line."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import job_store
from models.job_state import EventType, StreamKind
from models.job_store.stream import Line, tell
from perdure.types import EpochMetrics
from tests.contract.world import WEIGHTS, World, position, step_row
from tests.faults.killing import Killer
from tests.faults.streaming import Audience
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

#: SIGTERM takes this much longer with streams than without any; that takes about a second on a quiet machine.
STREAMS_SECONDS = 2.0
#: Below what requests under way are given, which is what it would come to if streams were waited for.
STOPS_WITHIN_SECONDS = 8.0
#: Long enough for the reconciler of the API to leave these jobs alone.
LEASE = 600.0


@contextlib.contextmanager
def installation(home: Path, database_url: str) -> Iterator[tuple[Stack, World]]:
    """An API without workers; the tests do to the database what those would do."""
    with Stack(home, database_url, "redis://127.0.0.1:9/0") as stack:
        yield stack, World(stack.db)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Stack, World]]:
    with installation(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}") as made:
        yield made


def stop(stack: Stack) -> float:
    """SIGTERM; the seconds that it took."""
    assert stack.api is not None
    began = time.monotonic()
    stack.api.send_signal(signal.SIGTERM)
    assert stack.api.wait(30) == 0
    return time.monotonic() - began


def kill(stack: Stack) -> None:
    assert stack.api is not None
    stack.api.kill()
    stack.api.wait(10)


def open_stream(stack: Stack, job_id: str, after: int = 0, **options: Any) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", stack.port), 20.0)
    for name, value in options.items():
        connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    connection.sendall(f"GET /jobs/{job_id}/stream?after={after} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def read_until(connection: socket.socket, *words: bytes, seconds: float = 20.0) -> bytes:
    """What comes until all of the words are there."""
    connection.settimeout(seconds)
    received = b""
    while not all(word in received for word in words):
        part = connection.recv(65536)
        assert part, f"the stream ended with {received[-200:]!r}"
        received += part
    return received


def train(world: World, fence: job_store.Fence, step: int) -> None:
    """A step, and with every third one a commit."""
    job_store.record_metrics(world.db, fence, [step_row(step)], position(step))
    if step % 3 == 0:
        world.commit(fence, step, epoch=step // 3, val_loss=1.0 / step)


def last_of(world: World, job_id: str) -> int:
    return int(world.job(job_id).stream_count)


def lines_of(received: bytes) -> list[bytes]:
    return [line for line in received.replace(b"\r", b"").split(b"\n") if line.startswith(b"data: ")]


def test_clients_follow_a_job_through_an_api_that_stops_and_one_that_is_killed(
    service: tuple[Stack, World],
) -> None:
    stack, world = service
    stack.start_api()
    fence = world.running(lease=LEASE)
    world.prepare(fence)
    with Audience(stack.url, fence.job_id, size=8) as audience:
        for step in range(1, 10):
            train(world, fence, step)
            if step == 3:
                audience.has(last_of(world, fence.job_id))
                assert stop(stack) < STOPS_WITHIN_SECONDS
            if step == 5:
                stack.start_api()
            if step == 6:
                audience.has(last_of(world, fence.job_id))
                kill(stack)
            if step == 8:
                fence = world.restart(fence, lease_seconds=LEASE).fence
                stack.start_api()
        job_store.finish(world.db, fence, WEIGHTS)
        audience.has_ended()
        last = last_of(world, fence.job_id)
        audience.check(last)
        assert all(number >= 2 for number in audience.breaks), "every client lost its connection twice"
    with Stack(stack.home, stack.database_url, stack.broker_url) as other:
        other.start_api()
        parts = []
        for each, after in ((stack, 0), (other, 0), (other, 4)):
            with open_stream(each, fence.job_id, after) as connection:
                parts.append(lines_of(read_until(connection, b"id: %d\n" % last)))
        assert parts[0] == parts[1] and parts[2] == parts[0][4:], "every process tells the same"


def test_sigterm_ends_the_process_with_idle_streams_and_with_one_that_takes_nothing(
    service: tuple[Stack, World], record_property: Any
) -> None:
    stack, world = service
    stack.start_api()
    without = stop(stack)
    stack.start_api()
    fence = world.running(lease=LEASE)
    large = Line(StreamKind.EVENT, {"sequence": 0, "type": "parked", "message": "x" * 2**20})
    with world.db.writing() as tx:
        tell(tx, world.db, fence.job_id, [large] * 24)
    with contextlib.ExitStack() as opened:
        stuck = opened.enter_context(open_stream(stack, fence.job_id, SO_RCVBUF=4096))
        idle = [
            opened.enter_context(open_stream(stack, fence.job_id, last_of(world, fence.job_id)))
            for _ in range(20)
        ]
        for connection in idle:
            read_until(connection, b"retry: ")
        read_until(stuck, b"retry: ")
        seconds = stop(stack)
        record_property("measured", f"SIGTERM without streams {without:.2f} s, with 21 {seconds:.2f} s")
        assert seconds < without + STREAMS_SECONDS
        for connection in idle:
            assert connection.recv(65536).endswith(b"0\r\n\r\n"), "an end in order, not a broken connection"
    assert stack.api is not None and "Traceback" not in stack.log_of(stack.api)


PATCHED = """
import sys
import api.streams
api.streams.SEND_SECONDS, api.streams.KEEPALIVE_SECONDS = 1.0, 0.2
from api.__main__ import main
sys.exit(main())
"""


@contextlib.contextmanager
def impatient(stack: Stack) -> Iterator[None]:
    """Its API gives up clients that take nothing after a second, and comments every silence of 0.2 s."""
    log = stack.home / "impatient.log"
    with log.open("wb") as out:
        stack.api = subprocess.Popen(
            [sys.executable, "-c", PATCHED], env=stack._env(), stdout=out, stderr=out, start_new_session=True
        )
    until(stack._is_ready, seconds=30, what="the API to be ready")
    yield
    assert "Traceback" not in log.read_text()


def test_a_client_that_takes_nothing_is_cut_off_and_the_others_are_not(service: tuple[Stack, World]) -> None:
    stack, world = service
    fence = world.running(lease=LEASE)
    large = Line(StreamKind.EVENT, {"sequence": 0, "type": "parked", "message": "x" * 2**20})
    with world.db.writing() as tx:
        tell(tx, world.db, fence.job_id, [large] * 24)
    with (
        impatient(stack),
        open_stream(stack, fence.job_id, SO_RCVBUF=4096) as stuck,
        open_stream(stack, fence.job_id, last_of(world, fence.job_id)) as quick,
    ):
        read_until(stuck, b"retry: ")
        read_until(quick, b"retry: ", b": ping")

        def is_cut_off() -> bool:
            try:
                stuck.send(b"X")
            except OSError:
                return True
            return False

        until(is_cut_off, seconds=20, what="the connection to be broken", every=0.2)
        job_store.record_event(world.db, fence, "evt_1", EventType.PARKED, "Waited.")
        read_until(quick, b"Waited.")


@pytest.mark.hours
def test_a_stream_stays_open_while_the_database_is_away(tmp_path: Path, postgres: Any) -> None:
    with installation(tmp_path, postgres.create_database()) as (stack, world), impatient(stack):
        fence = world.running(lease=LEASE)
        with open_stream(stack, fence.job_id) as connection:
            read_until(connection, b"id: %d\n" % last_of(world, fence.job_id))
            postgres.kill()
            try:
                until(lambda: stack.http.get("/health/ready").status_code == 503, seconds=20, what="503")
                read_until(connection, b": ping")
                read_until(connection, b": ping")
            finally:
                postgres.start()
            until(lambda: stack.http.get("/health/ready").status_code == 200, seconds=20, what="200")
            world.db.close()
            job_store.record_event(world.db, fence, "evt_1", EventType.PARKED, "Waited.")
            received = read_until(connection, b"Waited.")
        assert b"id: %d\n" % last_of(world, fence.job_id) in received


@pytest.mark.hours
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_hundred_clients_follow_a_job_through_kills_of_api_and_worker(kind: str, make_stack: Any) -> None:
    with make_stack(kind) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(full_fine_tune(10))
        with Audience(stack.url, job_id, size=100) as audience:
            killer = Killer(stack, job_id, seed=100)
            killer.in_mid_epoch()
            assert stop(stack) < STOPS_WITHIN_SECONDS
            stack.start_api()
            killer.in_mid_epoch()
            killer.whole_worker()
            killer.in_mid_epoch()
            killer.api()
            killer.in_mid_epoch()
            killer.trainer()
            stack.await_status(job_id, "succeeded", seconds=240)
            audience.has_ended()
            audience.check(int(job_store.get_job(stack.db, job_id).stream_count))
        assert all(number >= 2 for number in audience.breaks)
        told = audience.heard[0]
        epochs = [event.data for event in told if isinstance(event.data, EpochMetrics)]
        assert {row.epoch: row.val_loss for row in epochs} == {
            row["epoch"]: row["val_loss"] for row in stack.rows(f"/jobs/{job_id}/metrics")
        }
