"""The API as a process, and clients so light that they do not take the cores from it."""

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import end, eventually, start
from benchmarks.service_data import SPEC
from tests.servers.ports import free_port

READY_SECONDS = 60.0
#: At once, over all API processes.
CLIENTS = 16


class Api:
    """``with`` it, and nothing is left running. The broker is away: nobody is there to hear a bell."""

    def __init__(self, database_url: str, home: Path) -> None:
        home.mkdir()
        self._home, self._database_url, self.port = home, database_url, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection = self.connect()

    def __enter__(self) -> "Api":
        environment = {
            "PERDURE_HOME": str(self._home),
            "PERDURE_DATABASE_URL": self._database_url,
            "PERDURE_BROKER_URL": f"redis+socket://{self._home / 'no-broker.sock'}",
            "PERDURE_DATA_ROOT": str(self._home.parent / "data"),
            "PERDURE_HOST": "127.0.0.1",
            "PERDURE_PORT": str(self.port),
            "PERDURE_API_KEYS": "",
        }
        self._process = start(["-m", "api"], self._home / "api.log", environment)
        eventually(self._is_ready, seconds=READY_SECONDS, what="the API to be ready", every=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        if self._process is not None:
            end(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept open from request to request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def time_get(self, path: str) -> float:
        """Seconds until the whole answer was there. Raises RuntimeError for another one than 200."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"GET {path} answered {response.status}: {content[:500]!r}")
        return seconds

    def _is_ready(self) -> bool | None:
        connection = self.connect()
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200 or None
        except OSError:
            if self._process is not None and self._process.poll() is not None:
                raise RuntimeError((self._home / "api.log").read_text()[-2000:]) from None
            return None
        finally:
            connection.close()


def post_all(apis: Sequence[Api], number: int, deadline: float) -> tuple[int, float]:
    """So many submissions, or those until the deadline, and how many that were a second.

    By clients that each send the next one when the last was answered.
    """
    body = json.dumps(SPEC).encode()
    left = iter(range(number))
    guard, line = threading.Lock(), threading.Barrier(CLIENTS + 1)
    refused: list[str] = []
    sent: list[int] = []

    def submit(api: Api) -> None:
        connection = api.connect()
        connection.connect()
        line.wait()
        while not refused:
            with guard:
                if time.monotonic() > deadline or next(left, None) is None:
                    break
                sent.append(api.port)
            connection.request("POST", "/jobs", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 201:
                refused.append(f"POST /jobs answered {response.status}: {content[:500]!r}")
        connection.close()

    clients = [
        threading.Thread(target=submit, args=(apis[n % len(apis)],), daemon=True) for n in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    line.wait()
    began = time.perf_counter()
    for client in clients:
        client.join()
    if refused:
        raise RuntimeError(refused[0])
    return len(sent), len(sent) / (time.perf_counter() - began)
