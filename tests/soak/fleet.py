"""The installation under chaos: two API processes, three workers, servers behind proxies."""

import contextlib
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from sqlalchemy import select

from models.errors import DatabaseUnavailable
from models.host import ProcessId
from models.tables import attempts
from tests.images import draw_dataset
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer
from tests.soak.audit import Audit
from tests.soak.history import History
from tests.stack import Stack, command_line, kill_tree, signal_all, tree

NUM_APIS = 2
NUM_WORKERS = 3
LEASE_SECONDS = 6.0
#: Long enough for a trainer that shares two cores with two others and with the tests beside the soak.
STALL_SECONDS = 15.0


class Fleet:
    """Whatever of it dies is started again by ``mend``, as an operator's supervisor would."""

    def __init__(self, home: Path, history: History) -> None:
        self.home = home
        self.history = history
        self.frozen: list[psutil.Process] = []
        self.accounts: dict[ProcessId, str] = {}  #: of workers in the database
        self._stopped_on_purpose: set[str] = set()
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as cleanup:
            self.postgres = cleanup.enter_context(PostgresServer())
            self.valkey = cleanup.enter_context(ValkeyServer(tcp=True))
            self.broker_proxy = cleanup.enter_context(Proxy(self.valkey.port))
            #: One for the API processes together, and one for each worker.
            self.proxies = [cleanup.enter_context(Proxy(self.postgres.port)) for _ in range(1 + NUM_WORKERS)]
            broker = f"redis://127.0.0.1:{self.broker_proxy.port}/0"
            url = self.postgres.create_database()
            settings = {"PERDURE_STALL_SECONDS": str(STALL_SECONDS)}
            self.stack = cleanup.enter_context(Stack(self.home, url, broker, settings))
            self.audit = Audit(self.postgres, url.rpartition("/")[2], map(_account, range(NUM_WORKERS)))
            draw_dataset(self.home / "data/shapes", per_class=20)
            draw_dataset(self.home / "data/many", per_class=200)
            self.ports = [free_port() for _ in range(NUM_APIS)]
            self.apis = [self._start_api(number) for number in range(NUM_APIS)]
            self.workers = [self._start_worker(number) for number in range(NUM_WORKERS)]
            cleanup.callback(self._end)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    # -- Processes -------------------------------------------------------------------------------

    def mend(self) -> None:
        """Start what is dead, servers included, but for those that are meant to be away."""
        for name, server in (("postgres", self.postgres), ("valkey", self.valkey)):
            if not server.is_running and name not in self._stopped_on_purpose:
                server.start()
                self.history.add("restarted", what=name)
        for number, api in enumerate(self.apis):
            if api.poll() is not None:
                self.history.add("restarted", what=f"api {number}", status=api.returncode)
                self.apis[number] = self._start_api(number)
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.history.add("restarted", what=f"worker {number}", status=worker.returncode)
                self.workers[number] = self._start_worker(number)

    def keep_down(self, *servers: str) -> None:
        self._stopped_on_purpose |= set(servers)

    def let_up(self, *servers: str) -> None:
        self._stopped_on_purpose -= set(servers)

    def freeze(self, number: int) -> list[psutil.Process]:
        processes = tree(self.workers[number].pid)
        self.suspend(processes)
        return processes

    def suspend(self, processes: list[psutil.Process]) -> None:
        signal_all(processes, signal.SIGSTOP)
        self.frozen += processes

    def thaw(self, processes: list[psutil.Process]) -> None:
        signal_all(processes, signal.SIGCONT)
        self.frozen = [process for process in self.frozen if process not in processes]

    def heal(self) -> None:
        """No fault lasts beyond this; ``mend`` does the rest."""
        for proxy in [self.broker_proxy, *self.proxies]:
            proxy.heal()
        self.thaw(list(self.frozen))
        self._stopped_on_purpose.clear()

    def find(self, number: int, what: str) -> psutil.Process | None:
        """A worker's ``zygote``, or its ``trainer``: what the zygote forked."""
        processes = tree(self.workers[number].pid)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                is_zygote = "worker.zygote" in command_line(process)
                parent = process.parent()
                below = parent is not None and "worker.zygote" in command_line(parent)
                if (what == "zygote" and is_zygote and not below) or (what == "trainer" and below):
                    return process
        return None

    # -- Looks around the faults -----------------------------------------------------------------

    def rows(self, statement: Any) -> list[Any]:
        """Straight from the database, by no proxy; nothing while it is away."""
        try:
            with self.stack.db.reading() as tx:
                return list(tx.execute(statement))
        except DatabaseUnavailable:
            return []

    def held_by(self, number: int) -> tuple[str, int] | None:
        """The job and the attempt that a worker has, if it has one."""
        mine = attempts.c.worker_pid == self.workers[number].pid
        found = self.rows(
            select(attempts.c.job_id, attempts.c.attempt).where(mine, attempts.c.ended_at.is_(None))
        )
        return (found[0].job_id, found[0].attempt) if found else None

    def is_over(self, job_id: str, attempt: int) -> bool:
        """Whether the ledger has closed that attempt."""
        it = (attempts.c.job_id == job_id) & (attempts.c.attempt == attempt)
        return bool(self.rows(select(attempts.c.attempt).where(it, attempts.c.ended_at.is_not(None))))

    # -- Details ---------------------------------------------------------------------------------

    def _through(self, proxy: Proxy, account: str = "postgres") -> dict[str, str]:
        url = self.stack.db.engine.url.set(port=proxy.port, username=account)
        return {"PERDURE_DATABASE_URL": url.render_as_string(hide_password=False)}

    def _start_api(self, number: int) -> "subprocess.Popen[bytes]":
        return self.stack.start("api", **self._through(self.proxies[0]), PERDURE_PORT=str(self.ports[number]))

    def _start_worker(self, number: int) -> "subprocess.Popen[bytes]":
        account = _account(number)
        worker = self.stack.start("worker", **self._through(self.proxies[1 + number], account))
        self.accounts[ProcessId.of(worker.pid)] = account
        return worker

    def _end(self) -> None:
        for process in [*self.workers, *self.apis]:
            if process.poll() is None:
                kill_tree(process.pid)
                process.wait(10)


def _account(number: int) -> str:
    """By which the database tells one worker's writes from another's; it is the same after a restart."""
    return f"worker_{number}"
