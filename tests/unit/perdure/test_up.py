"""`perdure up` with parts that do nothing but live and die: real processes, real signals, a real broker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perdure import address
from perdure.errors import LocalStackError
from perdure.local import Options, Service
from perdure.processes import descendants

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.enable_socket,  # a port of this machine is what it is about
]

API = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments): pass
ThreadingHTTPServer((os.environ["PERDURE_HOST"], int(os.environ["PERDURE_PORT"])), Handler).serve_forever()
"""

WORKER = """
import os, signal, sys, time
name, home = os.environ["PERDURE_WORKER_NAME"], os.environ["PERDURE_HOME"]
def stop(*arguments):
    with open(home + "/stopped", "a") as stream:
        stream.write(name + " " + os.environ.get("PERDURE_THREADS", "0") + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("working", flush=True)
while True: time.sleep(1)
"""

#: Begins a write and freezes in the middle of it, the first time.
FREEZING_WORKER = """
import os, signal, sqlite3
from pathlib import Path
home = Path(os.environ["PERDURE_HOME"])
if not (home / "frozen").exists():
    (home / "frozen").touch()
    connection = sqlite3.connect(home / "perdure.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    os.kill(os.getpid(), signal.SIGSTOP)
"""

MIGRATE = """
import os, sqlite3
connection = sqlite3.connect(os.environ["PERDURE_DATABASE_URL"].removeprefix("sqlite:///"))
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
connection.commit()
"""

PROGRAM = """
import sys
from perdure import blocked_writes, local, parts
scripts = {scripts!r}
parts.command = lambda module: [sys.executable, "-c", scripts[module]]
blocked_writes.PROBE_SECONDS, blocked_writes.BLOCKED_SECONDS = 0.1, 0.3
local.WRITE_PROBE_EVERY_SECONDS = 0.2
sys.argv = ["perdure", "up", "--home", {home!r}, "--port", "0", "--device", "cpu", "--workers", "2"]
from perdure.cli import main
main()
"""


@dataclass
class Up:
    """A running `perdure up`."""

    process: subprocess.Popen[bytes]
    output: Path
    home: Path

    def said(self) -> str:
        return self.output.read_text()

    def children(self) -> dict[str, int]:
        """Part by part, as the command lines tell them apart."""
        found: dict[str, int] = {}
        for pid in descendants(self.process.pid):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
            except OSError:
                continue
            if "valkey-server" in line:
                found["broker"] = pid
            elif "HTTPServer" in line:
                found["api"] = pid
            elif "PERDURE_WORKER_NAME=" in environment:
                found[environment.partition("PERDURE_WORKER_NAME=")[2].partition("\0")[0]] = pid
        return found


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def launch(**scripts: str) -> Up:
        parts = {"api": API, "worker": WORKER, "models.migrate": MIGRATE}
        parts |= {name.replace("_", "."): script for name, script in scripts.items()}
        home, output = tmp_path / "home", tmp_path / f"output-{len(started)}"
        env = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(scripts=parts, home=str(home))],
                stdout=stream,
                stderr=stream,
                env=env,
                start_new_session=True,
            )
        started.append(Up(process, output, home))
        return started[-1]

    yield launch
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()


def until(condition: Callable[[], object], up: Up, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, up.said()
        time.sleep(0.02)


def is_ready(up: Up) -> bool:
    return "ready at" in up.said() and len(up.children()) == 5


def test_every_part_that_dies_is_started_again_and_all_stop_in_order(start: Start) -> None:
    up = start()
    until(lambda: is_ready(up), up)
    before = up.children()
    assert set(before) == {"broker", "api", "worker-1", "worker-2", "worker-light"}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(up.children()) == 5 and not set(up.children().values()) & set(before.values()), up)
    for name in before:
        assert f"{name} died (SIGKILL)" in up.said()

    for name in ("worker-1", "worker-2", "worker-light"):
        log = up.home / "logs" / f"{name}.log"
        until(lambda log=log: log.read_text().count("working") == 2, up)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    stopped = sorted((up.home / "stopped").read_text().splitlines())
    assert [line.split()[0] for line in stopped] == ["worker-1", "worker-2", "worker-light"]
    assert int(stopped[0].split()[1]) <= threads
    assert "Stopped." in up.said()


def test_kill_9_leaves_nothing_behind_and_the_next_one_carries_on(start: Start) -> None:
    up = start()
    until(lambda: is_ready(up), up)
    pids = list(up.children().values())
    up.process.kill()
    up.process.wait()
    until(lambda: not any(is_running(pid) for pid in pids), up)
    again = start()
    until(lambda: is_ready(again), again)


def test_a_second_one_on_the_same_home_is_refused(start: Start) -> None:
    up = start()
    until(lambda: is_ready(up), up)
    second = start()
    assert second.process.wait(20) == 2
    assert f"process {up.process.pid}" in second.said()
    assert len(up.children()) == 5


def test_an_api_that_cannot_start_is_given_up_with_its_last_words(start: Start) -> None:
    up = start(api="raise SystemExit('the configuration is wrong')")
    assert up.process.wait(30) == 2
    assert "The API does not start." in up.said()
    assert "the configuration is wrong" in up.said()


def test_a_migration_that_fails_is_told_with_its_last_words(start: Start) -> None:
    up = start(models_migrate="raise SystemExit('newer than this code')")
    assert up.process.wait(30) == 2
    assert "newer than this code" in up.said()


def test_a_part_frozen_in_the_middle_of_a_write_is_ended(start: Start) -> None:
    up = start(worker=FREEZING_WORKER + WORKER)
    until(lambda: "is frozen and blocks all writes" in up.said(), up)
    until(lambda: is_ready(up), up)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"Port {port} .* is taken"):
            address.free_port("127.0.0.1", port)
    assert address.free_port("127.0.0.1", 0) > 0


def test_a_data_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for data_root in (tmp_path / "file", tmp_path / "file/below"):
        service = Service(Options(tmp_path / "home", port=0, device="cpu", data_root=data_root), say=print)
        with pytest.raises(LocalStackError, match=f"{data_root} cannot be the data root"):
            service.run()


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(LocalStackError, match=r"198\.51\.100\.1 is no address of this machine"):
        address.free_port("198.51.100.1", 0)  # reserved for documentation


def test_without_keys_the_door_stays_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    address.refuse_open_door("127.0.0.1", lambda: False)
    with pytest.raises(LocalStackError, match="PERDURE_API_KEYS"):
        address.refuse_open_door("0.0.0.0", lambda: False)
    monkeypatch.setenv("PERDURE_API_KEYS", " , ")
    with pytest.raises(LocalStackError, match="PERDURE_API_KEYS"):
        address.refuse_open_door("0.0.0.0", lambda: False)
    address.refuse_open_door("0.0.0.0", lambda: True)
    monkeypatch.setenv("PERDURE_API_KEYS", "secret")
    address.refuse_open_door("0.0.0.0", lambda: False)


def is_running(pid: int) -> bool:
    """A zombie whose new parent has not looked yet is as good as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
