"""The server as a process: what it weighs, how it stops, and what rude connections do to it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.api.conftest import SPEC, installation
from tests.servers.waiting import until
from tests.stack import Stack

MAX_MEMORY = 150 * 2**20


def connect(stack: Stack, timeout: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.port), timeout)


def memory(stack: Stack) -> int:
    assert stack.api is not None
    return int(psutil.Process(stack.api.pid).memory_info().rss)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset after the answer is an end, too."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_it_is_light_and_has_no_torch(service: Stack) -> None:
    for _ in range(20):
        service.submit(SPEC)
        assert service.http.get("/jobs").status_code == 200
    assert memory(service) < MAX_MEMORY
    assert service.api is not None
    maps = Path(f"/proc/{service.api.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()


def test_an_endless_chunked_body_is_refused_and_cut_off(on_sqlite: Stack) -> None:
    before = memory(on_sqlite)
    with connect(on_sqlite) as connection:
        connection.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        began = time.monotonic()
        try:
            while sent < 200 * 2**20:
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        answer = read_all(connection)
    assert sent < 20 * 2**20 and time.monotonic() - began < 5.0
    # The kernel may drop the answer with the connection, for there was unread input.
    assert not answer or b"413" in answer.splitlines()[0]
    assert memory(on_sqlite) - before < 10 * 2**20


@pytest.mark.parametrize("path", ["/jobs", "/nope", "/jobs/job_1/cancel"])
def test_an_announced_100_mb_body_is_refused_unread(on_sqlite: Stack, path: str) -> None:
    with connect(on_sqlite) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {100 * 2**20}\r\n\r\n".encode()
        )
        answer = read_all(connection)
    assert answer.splitlines()[0].split()[1] in {b"413", b"404"}
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\0" * 1000])
def test_what_is_no_http_is_refused_and_closed(on_sqlite: Stack, garbage: bytes) -> None:
    with connect(on_sqlite) as connection:
        connection.sendall(garbage + b"\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in head
    problem = json.loads(body)
    assert problem["code"] == "malformed_request"
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert on_sqlite.http.get("/health/live").status_code == 200


def test_a_version_that_does_not_exist_is_no_way_in(on_sqlite: Stack) -> None:
    with connect(on_sqlite) as connection:
        connection.sendall(b"GET / HTTP/9.9\r\n\r\n")
        assert b"200 OK" not in read_all(connection)


def test_headers_without_end_are_refused(on_sqlite: Stack) -> None:
    with connect(on_sqlite) as connection:
        try:
            connection.sendall(b"GET /jobs HTTP/1.1\r\n")
            for number in range(100_000):
                connection.sendall(f"X-{number}: {'x' * 100}\r\n".encode())
        except OSError:
            pass
        answer = read_all(connection)
    assert not answer or b" 4" in answer.splitlines()[0]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A process that the test may stop."""
    with installation(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}") as stack:
        stack.start_api()
        yield stack


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order(own: Stack, number: signal.Signals) -> None:
    assert own.api is not None
    with connect(own) as idle:  # somebody stays connected and says nothing
        own.http.get("/jobs")
        began = time.monotonic()
        own.api.send_signal(number)
        assert own.api.wait(10) == 0
        assert time.monotonic() - began < 5.0
        idle.close()
    log = own.log_of(own.api)
    assert '"event": "api.stopped"' in log and "Traceback" not in log
    assert f'"pid": {own.api.pid}' in log


def test_killed_and_started_again_it_goes_on(own: Stack) -> None:
    job_id = own.submit(SPEC)
    assert own.api is not None
    own.api.kill()
    own.api.wait(10)
    own.start_api()
    assert own.job(job_id)["status"] == "queued"


def test_a_taken_port_is_one_sentence(on_sqlite: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        env=on_sqlite._env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Cannot listen on" in done.stderr and "Traceback" not in done.stderr


def test_slow_senders_are_cut_off(tmp_path: Path) -> None:
    stack = installation(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}")
    code = (
        "import sys, api.protocol\n"
        "import api.body\n"
        "api.protocol.HEADER_SECONDS = api.body.MAX_SECONDS = 1.0\n"
        "from api.__main__ import main\n"
        "sys.exit(main())"
    )
    with stack:
        process = subprocess.Popen([sys.executable, "-c", code], env=stack._env(), stderr=subprocess.DEVNULL)
        stack.api = process
        until(stack._is_ready, seconds=30, what="the API to be ready")
        with connect(stack) as slow, connect(stack) as silent, connect(stack) as kept:
            # A whole request is answered, and the connection serves the next one.
            for _ in range(2):
                kept.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith(b'{"status":"live"}'):
                    answer += kept.recv(65536)
            kept.sendall(b"GET /health/live HT")
            began = time.monotonic()
            with pytest.raises(OSError):
                for _ in range(100):
                    slow.sendall(b"X")
                    time.sleep(0.1)
            assert time.monotonic() - began < 5.0
            assert read_all(silent) == b"" and read_all(kept) == b""
        with connect(stack) as slow:
            slow.sendall(
                b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert read_all(slow).startswith(b"HTTP/1.1 408")


def test_a_body_in_single_bytes_is_answered(on_sqlite: Stack) -> None:
    with connect(on_sqlite) as connection:
        body = b'{"dataset": {"path": "flowers"}, "model": {"weights": null}}'
        connection.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
        )
        for byte in body:
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.1 201")
