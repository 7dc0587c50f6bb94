"""Two tenants on one installation: keys made on the server, used and revoked over two API processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api.conftest import SPEC, installation
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.waiting import until
from tests.stack import Stack

#: What the service promises, and time for a crowded machine.
REVOKED_WITHIN_SECONDS = 20


def keys(stack: Stack, *arguments: str) -> Any:
    """`perdure keys …` on the server, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "keys", *arguments, "--json", "--home", str(stack.home)],
        env=stack._env(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.hours), "postgres"])
def test_two_tenants(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'perdure.db'}"
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database()
    with installation(tmp_path, url) as stack:
        made = {
            tenant: keys(stack, "create", tenant, "--scope", "admin", "--tenant", tenant)
            for tenant in ("acme", "other")
        }
        acme, other = ({"Authorization": f"Bearer {made[tenant]['key']}"} for tenant in ("acme", "other"))
        stack.start_api()
        port = free_port()
        second = stack.start("api", PERDURE_PORT=str(port))
        stack.workers.append(second)  # ended with the rest
        elsewhere = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            try:
                return httpx2.get(f"{elsewhere}/health/ready").status_code == 200
            except httpx2.TransportError:
                return False

        until(is_ready, seconds=30, what="the second API to be ready")
        assert stack.http.get("/jobs").status_code == 401, "the door is shut: there is a key"
        job_id = stack.http.post("/jobs", json=SPEC, headers=acme).json()["id"]
        for base in (stack.url, elsewhere):
            assert httpx2.get(f"{base}/jobs/{job_id}", headers=acme).status_code == 200
            assert httpx2.get(f"{base}/jobs/{job_id}", headers=other).status_code == 404
            assert httpx2.get(f"{base}/jobs", headers=other).json()["data"] == []
        assert stack.http.post(f"/jobs/{job_id}/cancel", headers=other).status_code == 404
        assert stack.http.get(f"/jobs/{job_id}", headers=acme).json()["status"] == "queued"

        answer = stack.http.delete(f"/keys/{made['acme']['id']}", headers=acme)
        assert answer.status_code == 204
        until(
            lambda: httpx2.get(f"{elsewhere}/jobs", headers=acme).status_code == 401,
            seconds=REVOKED_WITHIN_SECONDS, what="the other process to refuse the key",
        )  # fmt: skip
        assert httpx2.get(f"{elsewhere}/jobs", headers=other).status_code == 200
        listed = {row["tenant_id"]: row for row in keys(stack, "list")}
        assert listed["acme"]["revoked_at"] and not listed["other"]["revoked_at"]
        assert listed["other"]["last_used_at"], "it was noted while it was used"
        for process in (stack.api, second):
            assert process is not None
            log = stack.log_of(process)
            assert made["acme"]["id"] in log
            assert not any(key["key"].split("_", 2)[2] in log for key in made.values())
