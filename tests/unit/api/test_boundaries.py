"""What the service must not load, and what its document must say."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.routes.jobs import EXAMPLE
from models.job_spec import JobSpec

ROOT = Path(__file__).parents[3]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def test_the_service_loads_no_torch() -> None:
    done = python(
        "import sys, api.app, api.__main__\n"
        "print([name for name in ('torch', 'torchvision', 'numpy', 'PIL', 'worker') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_an_open_door_is_refused(tmp_path: Path, host: str) -> None:
    done = python(
        "import sys; from api.__main__ import main; sys.exit(main())",
        PERDURE_HOST=host,
        PERDURE_HOME=str(tmp_path),
    )
    assert done.returncode == 2
    assert "PERDURE_API_KEYS" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("LEASE_SECONDS", "0"), ("STORAGE_URL", "ftp://x"), ("HEARTBEAT_SECONDS", "60")],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    settings = {"PERDURE_HOME": str(tmp_path), f"PERDURE_{name}": value}
    done = python("import sys; from api.__main__ import main; sys.exit(main())", **settings)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and f"PERDURE_{name}" in done.stderr


def test_the_document_is_whole(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    references: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                references.append(node["$ref"])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(document)
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    submit = document["paths"]["/jobs"]["post"]
    media = submit["requestBody"]["content"]["application/json"]
    assert media["schema"]["$ref"].endswith("/JobSpec") and media["example"]["dataset"]
    assert (
        "201" in submit["responses"] and "application/problem+json" in submit["responses"]["422"]["content"]
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            if method == "post":
                assert any(p["name"].lower() == "idempotency-key" for p in operation["parameters"]), path
                assert "requestBody" in operation


def test_the_example_is_a_spec() -> None:
    JobSpec.model_validate(EXAMPLE)
