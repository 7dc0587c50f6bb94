"""The installation under attack: a real API process with keys, tenants, a trained job, and a broker."""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import redis
from sqlalchemy import insert, select

from models import job_store, key_store
from models.key_spec import NewKey, Scope
from models.tables import idempotency_keys, metadata
from tests.images import draw_dataset
from tests.integration.hostile.case import SPEC, Case
from tests.servers.valkey import ValkeyServer
from tests.stack import Stack
from tests.unit.api.conftest import FakeWorker

#: Of PERDURE_API_KEYS.
OPERATOR_KEY = "the-operators-own-key-0123456789"
#: Changed by nothing but being looked at.
_VOLATILE = frozenset({"last_used_at"})


class Attacked:
    """What cases are sent to, and everything that they must leave as it was."""

    def __init__(self, stack: Stack, broker: ValkeyServer) -> None:
        self.stack = stack
        self._broker = redis.Redis(unix_socket_path=str(broker.socket_path))
        self._watching = sqlite3.connect(stack.home / "perdure.db")
        self.keys = {"operator": OPERATOR_KEY} | {
            name: key_store.create_key(stack.db, NewKey(name=name, scopes=[scope]), tenant).token.text
            for name, tenant, scope in (
                ("acme", "acme", Scope.ADMIN), ("acme-reads", "acme", Scope.READ),
                ("acme-writes", "acme", Scope.WRITE), ("other", "other", Scope.ADMIN),
                ("full", "full", Scope.WRITE), ("revoked", "acme", Scope.ADMIN),
            )
        }  # fmt: skip
        revoked = self.keys["revoked"].split("_")[1]
        key_store.revoke_key(stack.db, f"key_{revoked}", tenant_id="acme")
        self.names: dict[str, str] = {}

    def furnish(self) -> None:
        """What cases refer to: jobs of two tenants, with a checkpoint, and one that nobody may add to."""
        worker = FakeWorker(self.stack.db, self.stack.settings)
        trained = self._submit("acme")
        assert worker.run() == trained
        [row, *_] = job_store.job_checkpoints(self.stack.db, trained, after=None, limit=1)
        cancelled, others = self._submit("acme"), self._submit("other")
        for who, job_id in (("acme", cancelled), ("other", others)):
            self.send("POST", f"/jobs/{job_id}/cancel", who)
        self._submit("full")
        self.names = {"OTHER_JOB": others, "CANCELLED": cancelled, "JOB": trained, "CKPT": row.id}
        # Two keys of idempotent requests: one was answered, the other is still being.
        self.send("POST", f"/jobs/{cancelled}/cancel", headers={"Idempotency-Key": "used"})
        fingerprint = hashlib.sha256(f"POST /jobs/{trained}/retry?\n{{}}".encode()).hexdigest()
        now = {"created_at": datetime.now(UTC), "claimed_at": time.time() + 3600}  # for as long as tests last
        with self.stack.db.writing() as tx:
            row = {"tenant_id": "acme", "key": "under-way", "request_hash": fingerprint, **now}
            tx.execute(insert(idempotency_keys).values(row))

    def _submit(self, who: str) -> str:
        answer = self.send("POST", "/jobs", who, json=SPEC)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def send(self, method: str, path: str, who: str = "acme", **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if who:
            headers.setdefault("Authorization", f"Bearer {self.keys[who]}")
        return self.stack.http.request(method, path, headers=headers, **more)

    def send_case(self, case: Case, content: bytes) -> httpx.Response:
        return self.send(
            case.method, self.named(case.path), case.who, content=content, headers=dict(case.headers)
        )

    def named(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace(name, value)
        return text

    # -- What must not change --------------------------------------------------------------------

    def rows(self) -> dict[str, list[Any]]:
        """Every row of every table."""
        with self.stack.db.reading() as tx:
            return {
                table.name: sorted(
                    map(repr, tx.execute(select(*[c for c in table.c if c.name not in _VOLATILE])))
                )
                for table in metadata.sorted_tables
            }

    def database_version(self) -> int:
        """Another number after every commit of another connection."""
        return int(self._watching.execute("PRAGMA data_version").fetchone()[0])

    def files(self) -> dict[str, int]:
        """Everything below the home but logs and the database, with sizes."""
        return {
            str(path.relative_to(self.stack.home)): path.stat().st_size
            for path in self.stack.home.rglob("*")
            if path.is_file() and path.suffix != ".log" and not path.name.startswith("perdure.db")
        }

    def messages(self) -> dict[bytes, bytes | None]:
        """Every key of the broker."""
        names: Any = self._broker.keys("*")
        return {name: self._broker.dump(name) for name in names}  # type: ignore[misc]

    def resident_bytes(self) -> int:
        assert self.stack.api is not None
        return int(psutil.Process(self.stack.api.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        assert self.stack.api is not None
        spent = psutil.Process(self.stack.api.pid).cpu_times()
        return float(spent.user + spent.system)

    # -- What is told ----------------------------------------------------------------------------

    @property
    def log_path(self) -> Path:
        assert self.stack.api is not None
        return self.stack.home / f"{self.stack.api.pid}.log"

    def log_lines(self, since: int) -> list[dict[str, Any]]:
        """Whole lines from there on. Raises where one of them is no JSON."""
        with self.log_path.open("rb") as log:
            log.seek(since)
            whole, _, _ = log.read().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def secrets(self) -> list[str]:
        """What no answer and no log may contain."""
        return [*(key.removeprefix("pdr_") for key in self.keys.values()), str(self.stack.home)]


@contextmanager
def attacked_service(home: Path, broker: ValkeyServer) -> Iterator[Attacked]:
    """An API process on SQLite; its reconciler rests, so that nothing changes by itself."""
    environment: Mapping[str, str] = {
        "PERDURE_API_KEYS": OPERATOR_KEY,
        "PERDURE_RECONCILE_SECONDS": "3600",
        "PERDURE_MAX_QUEUED_JOBS": "1",
        "PERDURE_MAX_UPLOAD_BYTES": str(64 * 2**20),
    }
    stack = Stack(home, f"sqlite:///{home / 'perdure.db'}", broker.url, dict(environment))
    draw_dataset(home / "data/flowers", per_class=2)
    lay_traps(home)
    with stack:
        attacked = Attacked(stack, broker)
        stack.start_api()
        attacked.furnish()
        yield attacked


def lay_traps(home: Path) -> None:
    """Files below the data root that lead out of it, or are not what they say."""
    root, outside = home / "data", home.parent / f"{home.name}-outside"
    (outside / "photos/a").mkdir(parents=True)
    (outside / "photos/a/1.jpg").write_bytes(b"")
    (outside / "weights.pth").write_bytes(b"PK")
    (root / "way-out").symlink_to(outside / "photos")
    (root / "out.pth").symlink_to(outside / "weights.pth")
    (root / "loop").symlink_to(root / "loop")
    (root / "empty").mkdir()
    (root / "one-class/a").mkdir(parents=True)
    (root / "one-class/a/1.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no weights")
    (root / "bomb.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    (root / "short.safetensors").write_bytes(b"\x10")
    os.mkfifo(root / "pipe.pth")
    os.mkfifo(root / "pipe.safetensors")
