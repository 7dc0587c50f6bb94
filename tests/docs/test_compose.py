"""``docker-compose.yml`` and ``Dockerfile`` without containers: their commands as processes, on real servers.

Only what a container would give is put in the place of names: hosts, ports and folders.
"""

import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import yaml

from tests.docs.markdown import ROOT
from tests.docs.processes import clean_environment, on_one_core
from tests.images import draw_dataset
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import kill_tree

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("perdure")}
KEYS = "first-key,second-key"

#: Instructions of the Dockerfile, continuation lines joined.
INSTRUCTIONS = [
    (line.split()[0], line.partition(" ")[2].strip())
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def instructions(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def filled_in(text: str, variables: dict[str, str]) -> str:
    """Compose's ``${NAME:-default}``."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


# -- What the files say ------------------------------------------------------------------------------


def test_there_is_a_profile_for_each_device() -> None:
    devices = {
        profile: service["environment"]["PERDURE_DEVICE"]
        for service in OURS.values()
        for profile in service.get("profiles", [])
    }
    assert devices == {"cpu": "cpu", "gpu": "cuda"}
    assert SERVICES["worker"]["command"] == SERVICES["worker-gpu"]["command"] == ["worker"]


def test_the_image_runs_a_console_script_and_every_service_a_command_of_it() -> None:
    [entrypoint] = instructions("ENTRYPOINT")
    [script] = json.loads(entrypoint)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"][script] == "perdure.cli:main"
    assert {name: service["command"] for name, service in OURS.items()} == {
        "migrate": ["migrate"], "api": ["api"], "worker": ["worker"], "worker-gpu": ["worker"],
        "worker-light": ["worker", "--light"],
    }  # fmt: skip


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [path for rest in instructions("COPY") for path in rest.split()[:-1]]
    assert {"api", "models", "worker", "perdure", "pyproject.toml", "requirements.lock"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists() and path.split("/")[0] not in ignored, path


def test_the_image_installs_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [wanted] = [found for rest in instructions("RUN") for found in re.findall(r"\.\[([\w,]+)\]", rest)]
    assert set(wanted.split(",")) <= extras.keys()


def test_every_part_waits_for_services_that_exist() -> None:
    for name, service in OURS.items():
        assert service["depends_on"].keys() <= SERVICES.keys(), name
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "healthcheck" in SERVICES["postgres"]


def test_checkpoints_and_data_lie_on_volumes() -> None:
    for service in OURS.values():
        # `source:target` with a source that may hold `:-`
        targets = [filled_in(volume, {}).split(":")[1] for volume in service["volumes"]]
        environment = service["environment"]
        storage = urlsplit(environment["PERDURE_STORAGE_URL"]).path
        assert any(storage.startswith(f"{target}/") for target in targets)
        assert environment["PERDURE_DATA_ROOT"] in targets
        # The data itself is mounted read-only.
        assert any(environment["PERDURE_UPLOADS_ROOT"].startswith(f"{target}/") for target in targets)


def test_the_variables_that_it_takes_are_in_the_example() -> None:
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = (ROOT / ".env.example").read_text()
    assert named and all(f"#{name}=" in example for name in named)
    assert all({"path": ".env", "required": False} in service["env_file"] for service in OURS.values())


def test_the_broker_keeps_what_it_is_told() -> None:
    command = SERVICES["valkey"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"


# -- What they do ------------------------------------------------------------------------------------


@dataclass
class Composed:
    """The services that are ours, as `docker compose` would start them, but as processes."""

    folder: Path
    postgres_port: int
    valkey_port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        key = KEYS.split(",")[1]
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        for name in ("var", "data"):
            (self.folder / name).mkdir()

    def environment(self, service: str, *, keys: str = KEYS, host: str = "127.0.0.1") -> dict[str, str]:
        given = dict(pair.split("=", 1) for rest in instructions("ENV") for pair in shlex.split(rest))
        given |= SERVICES[service]["environment"]
        places = {
            "@postgres:5432": f"@127.0.0.1:{self.postgres_port}",
            "//valkey:6379": f"//127.0.0.1:{self.valkey_port}",
            "/var/lib/perdure": str(self.folder / "var"),
            "/data": str(self.folder / "data"),
            "0.0.0.0": host,
        }
        for name, text in given.items():
            value = filled_in(text, {"PERDURE_API_KEYS": keys})
            for place, real in places.items():
                if place in value:
                    value = value.replace(place, real)
                    break
            given[name] = value
        if "PERDURE_PORT" in given:
            given["PERDURE_PORT"] = str(self.port)
        return clean_environment(**given)

    def start(self, service: str, **changes: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure", *SERVICES[service]["command"]],
            cwd=self.folder, env=self.environment(service, **changes), stdin=subprocess.DEVNULL,
            stdout=(self.folder / f"{service}.log").open("ab"), stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=on_one_core(),
        )  # fmt: skip
        self.running.append(process)
        return process

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()

    def is_ready(self) -> bool:
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.http.close()
        for process in self.running:
            if process.poll() is None:  # else its number may be another's by now
                kill_tree(process.pid)
                process.wait(10)

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.http.get(f"/jobs/{job_id}").json()
        assert job["status"] in {"queued", "running", "succeeded"}, job["error"]
        return job


@pytest.fixture
def composed(tmp_path: Path, postgres: PostgresServer) -> Iterator[Composed]:
    """With the database that the PostgreSQL image makes: one user, and one database of its name."""
    user = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    database = SERVICES["postgres"]["environment"]["POSTGRES_DB"]
    postgres.execute(f'CREATE ROLE "{user}" LOGIN')
    url = postgres.create_database(name=database)
    postgres.execute(f'ALTER DATABASE "{database}" OWNER TO "{user}"')
    with ValkeyServer(tcp=True) as valkey:
        services = Composed(tmp_path, postgres.port, valkey.port)
        draw_dataset(services.folder / "data/shapes", per_class=8)
        try:
            yield services
        finally:
            services.stop()
            postgres.drop_database(url)
            postgres.execute(f'DROP ROLE "{user}"')


def test_without_keys_the_api_refuses_to_listen_to_everybody(tmp_path: Path) -> None:
    host = SERVICES["api"]["environment"]["PERDURE_HOST"]
    assert host == "0.0.0.0"
    services = Composed(tmp_path, free_port(), free_port())
    try:
        assert services.start("api", keys="", host=host).wait(30) == 2
    finally:
        services.stop()
    [sentence] = services.log("api").splitlines()
    assert host in sentence and "PERDURE_API_KEYS" in sentence


@pytest.mark.long
def test_a_job_goes_through_and_survives_the_stop_of_its_worker(composed: Composed) -> None:
    assert composed.start("migrate").wait(60) == 0, composed.log("migrate")
    api = composed.start("api")
    worker = composed.start("worker")
    until(composed.is_ready, seconds=30, what="the API to be ready")

    spec = full_fine_tune(6)
    url = composed.http.base_url
    assert httpx.post(f"{url}/jobs", json=spec).status_code == 401
    job_id = composed.http.post("/jobs", json=spec).json()["id"]
    until(
        lambda: composed.job(job_id)["progress"]["epochs_done"] >= 1,
        seconds=60, what="the job to be under way", every=0.05,
    )  # fmt: skip

    worker.send_signal(signal.SIGTERM)
    grace = SERVICES["worker"]["stop_grace_period"]
    assert worker.wait(float(grace.removesuffix("s"))) == 0, composed.log("worker")
    stopped = composed.job(job_id)
    assert stopped["status"] == "queued" and stopped["resume_from"]["step"] == stopped["progress"]["step"]
    assert (composed.folder / "var/storage/jobs" / job_id).is_dir()

    composed.start("worker")
    until(
        lambda: composed.job(job_id)["status"] == "succeeded",
        seconds=90, what="the job to succeed", every=0.1,
    )  # fmt: skip
    attempts = composed.http.get(f"/jobs/{job_id}/attempts").json()["data"]
    assert [row["end_cause"] for row in attempts] == ["preempted", "finished"]
    assert attempts[1]["steps_redone"] == 0

    api.send_signal(signal.SIGTERM)
    assert api.wait(20) == 0
