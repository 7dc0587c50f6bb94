"""The server as a process: what it weighs, how it stops, and what rude connections do to it."""

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
