"""Schemathesis against a real API process: all checks, and scenarios along the document's links."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from models import job_store, key_store
from models.key_spec import NewKey, Scope
from tests.images import draw_dataset
from tests.integration.api.conftest import SPEC
from tests.stack import Stack
from tests.unit.api.conftest import FakeWorker

#: What is thought of is the same every time, unless somebody asks for something else.
SEED = os.environ.get("SEED", "1")
ROOT = Path(__file__).parents[4]
CONFIG = Path(__file__).with_name("schemathesis.toml")
OPERATOR_KEY = "key-of-the-operator-0123456789"
_AS_TWO = """
[auth.wfc]
path = "{path}"
peers = ["operator", "other"]
"""


@dataclass(frozen=True)
class Outcome:
    """What Schemathesis said."""

    num_cases: int
    text: str
    is_good: bool


def service(home: Path, database_url: str, *, keyed: bool) -> Stack:
    """One installation, with everything that an id can name. Nothing ever leaves this machine."""
    environment = {"PERDURE_WEBHOOK_ALLOW_HOSTS": "127.0.0.1"} | (
        {"PERDURE_API_KEYS": OPERATOR_KEY} if keyed else {}
    )
    draw_dataset(home / "data/flowers", per_class=2)
    stack = Stack(home, database_url, "redis://127.0.0.1:9/0", environment)
    if keyed:
        stack.http.headers["Authorization"] = f"Bearer {OPERATOR_KEY}"
    return stack


def furnish(stack: Stack) -> dict[str, list[str]]:
    """Ids that exist, by the name of their parameter; of jobs, the one with checkpoints is the first."""
    worker = FakeWorker(stack.db, stack.settings)
    worker.register()
    trained = stack.submit(SPEC)
    assert worker.run() == trained
    checkpoints = job_store.job_checkpoints(stack.db, trained, after=None, limit=10)
    cancelled = stack.submit(SPEC)
    stack.http.post(f"/jobs/{cancelled}/cancel")
    dataset = stack.http.post("/datasets", json={"path": "flowers"}).json()["id"]
    webhook = stack.http.post("/webhooks", json={"url": "http://127.0.0.1:9/"}).json()["id"]
    return {
        "job_id": [trained, cancelled, stack.submit(SPEC)],
        "checkpoint_id": ["last", "best", *(row.id for row in checkpoints if row.status == "committed")],
        "dataset_id": [dataset], "webhook_id": [webhook], "worker_id": ["wrk_test"],
    }  # fmt: skip


def run(stack: Stack, *options: str, keyed: bool, seconds: float) -> Outcome:
    """One run; ``options`` are the command line's. With keys, as two tenants that must not see each other."""
    ids = furnish(stack)
    document, config = stack.home / "openapi.json", stack.home / "schemathesis.toml"
    document.write_bytes(stack.http.get("/openapi.json").content)
    config.write_text(CONFIG.read_text())
    if keyed:
        other = key_store.create_key(stack.db, NewKey(name="other", scopes=[Scope.ADMIN]), "other").token.text
        users = {"operator": OPERATOR_KEY, "other": other}
        (stack.home / "auth.json").write_text(json.dumps({"auth": [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
            for name, key in users.items()
        ]}))  # fmt: skip
        config.write_text(f"{CONFIG.read_text()}{_AS_TWO.format(path=stack.home / 'auth.json')}")
    else:
        options = ("--exclude-path", "/keys", *options)  # the first key would shut the door
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", str(document),
            "--url", stack.url, "--checks", "all", "--no-color", "--continue-on-failure",
            "--seed", SEED, *options,
        ],
        cwd=stack.home,
        env=os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.integration.api.schema.hooks", "PYTHONPATH": str(ROOT),
            "PERDURE_TEST_IDS": json.dumps(ids),
        },
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    found = re.search(r"(\d[\d,]*) generated", done.stdout)
    number = int(found[1].replace(",", "")) if found else 0
    return Outcome(number, done.stdout + done.stderr, done.returncode == 0)
