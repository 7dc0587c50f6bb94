"""`perdure up`: the whole service on one machine, its parts as processes that are looked after.

Read ``Service.run`` first. One thread does everything, since a parent-death signal follows the thread that
forked; it sleeps until a signal, a child's death or a deadline. Whatever ends this process ends the parts
with it, and nothing is lost by that: what is recorded is durable, and the next `up` on the same home goes on.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perdure import broker, parts
from perdure.address import free_port, is_ready, refuse_open_door, shown
from perdure.blocked_writes import BlockedWrites, database_of, is_stopped
from perdure.child import Child, in_words, size_of, spawn, tail
from perdure.devices import Slot, slots
from perdure.errors import LocalStackError
from perdure.home import Home
from perdure.signals import Signals
from perdure.terminal import plain

#: How long a part may take to stop in order: workers write a checkpoint, the API ends its streams.
WORKER_GRACE_SECONDS = 10.0  #: beyond PERDURE_STOP_SECONDS, which they give their trainers
API_GRACE_SECONDS = 10.0
BROKER_GRACE_SECONDS = 5.0
#: An API that dies so often before it was ever ready will not get ready.
STARTS_BEFORE_GIVING_UP = 3
#: The name of the worker that has no device.
LIGHT = "worker-light"
MIGRATION_SECONDS = 120.0
WRITE_PROBE_EVERY_SECONDS = 2.0
READY_PROBE_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Options:
    """What `perdure up` was asked for."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int | None = None
    device: str = "auto"
    data_root: Path | None = None
    drills: bool = False


class Service:
    """One run of `perdure up`; ``say`` takes lines of markup for people."""

    def __init__(self, options: Options, say: Callable[[str], object]) -> None:
        self._options = options
        self._say = say
        self._began = time.monotonic()
        self.home = Home(options.home)
        self.data_root = (
            options.data_root or Path(os.environ.get("PERDURE_DATA_ROOT") or self.home.data)
        ).absolute()
        self.slots: list[Slot] = []
        self.url = ""
        self._broker: Child | None = None
        self._api: Child | None = None
        self._workers: list[Child] = []
        self._ready_at: float | None = None
        self._next_ready_probe = 0.0
        self._next_write_probe = 0.0

    def run(self) -> None:
        """Serve until asked to stop. Raises LocalStackError for what has to be changed first."""
        api = parts.command("api")
        refuse_open_door(self._options.host, self._has_stored_key)
        self.slots = slots(self._options.device, self._options.workers)
        self.home.create()
        port = free_port(self._options.host, self._options.port)
        self.url = f"http://{shown(self._options.host)}:{port}"
        with self.home.locked(self.url), Signals() as signals:
            try:
                environment = self._environment(port)
                self._start_broker()
                self._migrate(signals, environment)
                if not signals.stop_requests:
                    self._start_api_and_workers(api, environment)
                    self._look_after(signals, environment)
            finally:
                self._stop(signals)

    # -- starting --------------------------------------------------------------------------------

    def _environment(self, port: int) -> dict[str, str]:
        storage = os.environ.get("PERDURE_STORAGE_URL") or self.home.storage.as_uri()
        address = self.home.runtime_folder() / "broker.sock"
        try:
            self.data_root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalStackError(
                f"{self.data_root} cannot be the data root: {error.strerror}; choose another --data-root."
            ) from error
        return parts.environment(
            home=self.home.root,
            host=self._options.host,
            port=port,
            database_url=self._database_url(),
            broker_url=os.environ.get("PERDURE_BROKER_URL") or broker.url(address),
            storage_url=storage,
            data_root=self.data_root,
            drills="true" if self._options.drills else None,
        )

    def _database_url(self) -> str:
        return os.environ.get("PERDURE_DATABASE_URL") or f"sqlite:///{self.home.database}"

    def _has_stored_key(self) -> bool:
        asked = [*parts.command("models.keys"), "exist"]
        environment = parts.environment(home=self.home.root, database_url=self._database_url())
        return subprocess.run(asked, env=environment, capture_output=True, check=False).returncode == 0

    def _start_broker(self) -> None:
        if os.environ.get("PERDURE_BROKER_URL"):
            return
        address = self.home.runtime_folder() / "broker.sock"
        folder = broker.BrokerFolder(self.home.broker)
        self._broker = Child(
            name="broker",
            argv=broker.command(self.home.broker, address),
            env=dict(os.environ),
            log=self.home.logs / "broker.log",
            before_start=folder.before_start,
        )
        self._broker.start()

    def _migrate(self, signals: Signals, environment: dict[str, str]) -> None:
        """Bring the database up to date; the broker loads its queue meanwhile."""
        log = self.home.logs / "migrate.log"
        began_at = size_of(log)
        process = spawn(parts.command("models.migrate"), environment, log)
        deadline = time.monotonic() + MIGRATION_SECONDS
        while process.poll() is None and not signals.stop_requests and time.monotonic() < deadline:
            signals.wait(deadline - time.monotonic())
        if process.poll() is None:
            process.kill()
            process.wait()
            if not signals.stop_requests:
                raise LocalStackError(
                    f"The database did not get ready in {MIGRATION_SECONDS:g} s; see {log}."
                )
        elif process.returncode:
            raise LocalStackError(
                f"The database could not be brought up to date. {log} ends with:\n{tail(log, since=began_at)}"
            )

    def _start_api_and_workers(self, api: list[str], environment: dict[str, str]) -> None:
        self._api = Child("api", api, environment, self.home.logs / "api.log")
        self._api.start()
        for number, slot in enumerate(self.slots, start=1):
            name = f"worker-{number}"
            env = {
                **environment,
                "PERDURE_DEVICE": slot.device,
                "PERDURE_THREADS": str(slot.threads),
                "PERDURE_WORKER_NAME": name,
            }
            if slot.gpu is not None:
                env["CUDA_VISIBLE_DEVICES"] = slot.gpu
            self._start_worker(name, parts.command("worker"), env)
        # It checks datasets: one that trains would let them wait for the end of its job.
        light = {**environment, "PERDURE_WORKER_NAME": LIGHT}
        self._start_worker(LIGHT, [*parts.command("worker"), "--light"], light)

    def _start_worker(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        worker = Child(name, argv, env, self.home.logs / f"{name}.log")
        worker.start()
        self._workers.append(worker)

    # -- looking after ---------------------------------------------------------------------------

    def _look_after(self, signals: Signals, environment: dict[str, str]) -> None:
        database = database_of(environment["PERDURE_DATABASE_URL"])
        writes = BlockedWrites(database) if database else None
        try:
            while not signals.stop_requests:
                for child in self._children():
                    self._repair(child)
                self._announce_when_ready()
                if writes is not None:
                    self._free_blocked_writes(writes)
                signals.wait(self._next_deadline() - time.monotonic())
        finally:
            if writes is not None:
                writes.close()

    def _repair(self, child: Child) -> None:
        code = child.reap()
        if code is not None:
            self._say(f"[yellow]▲[/] {child.name} died ({in_words(code)}); starting it again")
            if child is self._api:
                if self._ready_at is None and child.starts >= STARTS_BEFORE_GIVING_UP:
                    raise LocalStackError(
                        f"The API does not start. {child.log} ends with:\n{child.log_tail()}"
                    )
                self._next_ready_probe = 0.0
        if child.process is None and time.monotonic() >= child.due_at:
            try:
                child.start()
            except (LocalStackError, OSError) as error:
                child.due_at = time.monotonic() + child.backoff.after_death(0.0)
                self._say(f"[red]✗[/] {child.name} cannot be started: {plain(error)}")

    def _announce_when_ready(self) -> None:
        if self._ready_at is not None or time.monotonic() < self._next_ready_probe:
            return
        self._next_ready_probe = time.monotonic() + READY_PROBE_EVERY_SECONDS
        if is_ready(self.url):
            self._ready_at = time.monotonic()
            took = self._ready_at - self._began
            self._say(f"[green]✓[/] Perdure is ready at [bold]{self.url}[/] [dim]({took:.1f} s)[/]")

    def _free_blocked_writes(self, writes: BlockedWrites) -> None:
        now = time.monotonic()
        if now < self._next_write_probe:
            return
        self._next_write_probe = now + WRITE_PROBE_EVERY_SECONDS
        if writes.too_long():
            for child in self._children():
                if child.is_alive and is_stopped(child.pid):
                    self._say(f"[yellow]▲[/] {child.name} is frozen and blocks all writes; ending it")
                    child.kill()

    def _next_deadline(self) -> float:
        deadlines = [time.monotonic() + WRITE_PROBE_EVERY_SECONDS]
        deadlines += [child.due_at for child in self._children() if child.process is None]
        if self._ready_at is None:
            deadlines.append(self._next_ready_probe)
        return min(deadlines)

    def _children(self) -> list[Child]:
        return [child for child in (self._broker, self._api, *self._workers) if child is not None]

    # -- stopping --------------------------------------------------------------------------------

    def _stop(self, signals: Signals) -> None:
        """Workers first, since they still have a checkpoint to record; the broker last."""
        if self._ready_at is not None and any(worker.is_alive for worker in self._workers):
            self._say("Stopping: running jobs write a checkpoint first. Ctrl-C again stops at once.")
        impatient_after = max(1, signals.stop_requests)
        for group, grace_seconds in (
            (self._workers, _stop_seconds() + WORKER_GRACE_SECONDS),
            ([self._api] if self._api else [], API_GRACE_SECONDS),
            ([self._broker] if self._broker else [], BROKER_GRACE_SECONDS),
        ):
            for child in group:
                child.terminate()
            deadline = time.monotonic() + grace_seconds
            while (
                any(child.is_alive for child in group)
                and time.monotonic() < deadline
                and signals.stop_requests <= impatient_after
            ):
                signals.wait(deadline - time.monotonic())
            for child in group:
                if child.is_alive:
                    self._say(f"[yellow]▲[/] {child.name} did not stop in time; ending it")
                    child.kill()
        for child in self._children():
            if child.process is not None:
                child.process.wait()
        if self._broker is not None:
            with contextlib.suppress(OSError):  # a broker that was killed leaves its socket there
                self.home.runtime_folder().rmdir()
        if self._ready_at is not None:
            self._say("Stopped. Started again on the same home it carries on with the jobs it had.")


def _stop_seconds() -> float:
    """That workers wait for their trainers when they are asked to stop."""
    try:
        return float(os.environ.get("PERDURE_STOP_SECONDS") or 20.0)
    except ValueError:  # no worker starts with such a setting, and each says why
        return 0.0
