"""Specs with paths, numbers, strings and models that are not to be trusted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.settings import Settings

PATHS = [
    "../../etc/passwd", "/etc/shadow", "/etc", "..\\..\\x", "%2e%2e%2f", "%252e%252e%252f", "a/..;/b", "..",
    "flowers/../../outside", "flowers/..", "flowers\0", "\0", "．．/．．/etc", "．．", "x" * 10_000,
    "x" * 900, "", " ", "~", "~root", "file:///etc", "C:\\x", "flowers\n", "\x1b[31mflowers", "nowhere",
    "flowers/nowhere",
    "/".join("abcdefgh" * 50),
]  # fmt: skip

NUMBERS: list[tuple[str, Any]] = [
    ("hyperparameters.batch_size", 10**9), ("hyperparameters.batch_size", 0),
    ("hyperparameters.batch_size", -1), ("hyperparameters.batch_size", 1.5),
    ("hyperparameters.batch_size", "32"), ("hyperparameters.batch_size", True),
    ("hyperparameters.epochs", 10**9), ("hyperparameters.epochs", 0), ("hyperparameters.epochs", -1),
    ("hyperparameters.epochs", True), ("hyperparameters.epochs", None), ("hyperparameters.epochs", 10**30),
    ("hyperparameters.image_size", 10**5), ("hyperparameters.image_size", 1),
    ("hyperparameters.lr", 0), ("hyperparameters.lr", -1), ("hyperparameters.lr", True),
    ("hyperparameters.lr", "0.1"), ("hyperparameters.lr", 10**20), ("hyperparameters.weight_decay", -1),
    ("hyperparameters.label_smoothing", 1.0), ("model.dropout", 1.0), ("model.dropout", -0.1),
    ("seed", 2**64), ("seed", 2**63), ("seed", -1), ("seed", 1.0), ("seed", "0"), ("seed", False),
    ("resources.num_devices", 10**4), ("resources.num_devices", 0),
    ("resources.max_runtime_seconds", 0), ("priority", 10**6), ("validation.split", 0),
    ("validation.split", 1), ("model.freeze", -1), ("model.freeze", 10**6), ("model.freeze", True),
    ("fault_tolerance.max_failures", 0), ("fault_tolerance.checkpoint_every.seconds", 0),
    ("hyperparameters", {"batch_size": 8192, "image_size": 2048}),  # each legal, the product beyond memory
]  # fmt: skip

STRINGS: list[tuple[str, Any]] = [
    ("name", "two\nlines"), ("name", "\x1b[2J"), ("name", "\x7f"), ("name", "a\0b"), ("name", ""),
    ("name", "x" * 201), ("name", 7), ("metadata", {"k": "a\nb"}), ("metadata", {"a\tb": "v"}),
    ("metadata", {"": "v"}), ("metadata", {"k": "x" * 513}), ("metadata", {str(i): "" for i in range(17)}),
    ("metadata", {"k": 1}), ("metadata", []), ("hyperparameters.optimizer", "rmsprop"),
    ("resources.device", "tpu"), ("dataset", {"id": "ds_1", "path": "flowers"}), ("dataset", "flowers"),
]  # fmt: skip

MODELS: list[tuple[str, Any]] = [
    ("model.arch", "os.system"), ("model.arch", "__import__('os').system('true')"), ("model.arch", "resnet"),
    ("model.arch", "efficientnet_b9"), ("model.arch", "EfficientNet_B1_Weights"), ("model.arch", ""),
    ("model.arch", "x" * 300), ("model.arch", "fasterrcnn_resnet50_fpn"), ("model.weights", "NO_SUCH"),
    ("model.weights", "os.system"), ("model.weights", "ResNet18_Weights.DEFAULT"),
    ("model.freeze", 1000), ("model.weights", {"file": "nowhere.pth"}),
    ("model.weights", {"file": "flowers"}),
    ("model.weights", {"file": "/etc/passwd"}), ("model.weights", {"file": "../../x.pth"}),
    ("model.weights", {"file": "notes.txt"}), ("model.weights", {"file": "bomb.safetensors"}),
    ("model.weights", {"file": "short.safetensors"}), ("model.weights", {"file": "out.pth"}),
]  # fmt: skip


def spec_with(field: str, value: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}
    *parents, last = field.split(".")
    part = spec
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = value
    return spec


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("dataset.path", path) for path in PATHS), *NUMBERS, *STRINGS, *MODELS],
    ids=lambda value: ascii(value)[:40],
)
def test_a_hostile_spec_is_refused_and_leaves_nothing(
    client: TestClient,
    settings: Settings,
    tmp_path: Path,
    num_jobs: Callable[[], int],
    bell: Any,
    problem: Callable[..., Any],
    field: str,
    value: Any,
) -> None:
    root = settings.data_folder
    (tmp_path / "outside.pth").write_bytes(b"PK")
    (root / "out.pth").symlink_to(tmp_path / "outside.pth")
    (root / "notes.txt").write_text("no weights")
    (root / "bomb.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    (root / "short.safetensors").write_bytes(b"\x10")
    response = client.post("/jobs", json=spec_with(field, value))
    body = problem(response, 422)
    assert body["errors"], body
    named = body["errors"][0]["field"]
    assert named == field or named.startswith(f"{field}.") or field.startswith(named), named
    assert str(tmp_path) not in response.text
    assert num_jobs() == 0 and bell.rings == []


def test_a_misspelt_architecture_gets_a_suggestion(client: TestClient, problem: Callable[..., Any]) -> None:
    body = problem(client.post("/jobs", json=spec_with("model.arch", "mobilenetv2")), 422, "spec_invalid")
    assert "mobilenet_v2" in body["detail"]


def test_an_image_size_below_the_architecture_is_refused(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    spec = spec_with("model.arch", "inception_v3") | {"hyperparameters": {"image_size": 32}}
    body = problem(client.post("/jobs", json=spec), 422, "spec_invalid")
    assert body["errors"][0]["field"] == "hyperparameters.image_size"


def test_an_image_size_that_does_not_divide_is_refused(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    spec = spec_with("model.arch", "vit_b_16") | {"hyperparameters": {"image_size": 225}}
    body = problem(client.post("/jobs", json=spec), 422, "spec_invalid")
    assert "16" in body["detail"]


def test_a_batch_beyond_any_memory_at_the_architectures_own_size_is_refused(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    spec = spec_with("model.arch", "efficientnet_b7") | {"hyperparameters": {"batch_size": 8000}}
    body = problem(client.post("/jobs", json=spec), 422, "spec_invalid")
    assert body["errors"][0]["field"] == "hyperparameters.batch_size"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "'; DROP TABLE jobs; --",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "日本語 🌷",
        "%s%n",
    ],
)
def test_strings_that_are_code_elsewhere_are_taken_literally(client: TestClient, text: str) -> None:
    response = client.post("/jobs", json=spec_with("name", text) | {"metadata": {text[:60]: text}})
    assert response.status_code == 201
    body = client.get(response.headers["location"]).json()
    assert body["name"] == text and body["metadata"] == {text[:60]: text}
    assert [job["id"] for job in client.get("/jobs", params={"name": text}).json()["data"]] == [body["id"]]


GARBAGE = [
    "x", "job_", "job_%00", "job_%7F", "%ff", "..;", "%2fetc", "job_" + "a" * 5000, "job_a'b", "1", "-1",
    "job_ä", "{}", "null", "*", "job_0000%20OR%201=1", "%F0%9F%92%A9",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("POST", "/jobs/{}/pause"),
        ("POST", "/jobs/{}/resume"),
        ("POST", "/jobs/{}/retry"), ("GET", "/jobs/{}/metrics"), ("GET", "/jobs/{}/events"),
        ("GET", "/jobs/{}/attempts"), ("GET", "/jobs/{}/checkpoints"), ("GET", "/jobs/{}/logs"),
        ("GET", "/jobs/{}/model"), ("GET", "/jobs/{}/model/content"),
        ("POST", "/jobs/{}/predict"),
        ("GET", "/jobs/{}/checkpoints/ckpt_1/content"), ("GET", "/jobs/JOB/checkpoints/{}/content"),
    ],
)  # fmt: skip
def test_garbage_for_an_id_is_not_found(
    client: TestClient,
    submit: Callable[..., Any],
    problem: Callable[..., Any],
    method: str,
    path: str,
) -> None:
    job = submit()
    for garbage in GARBAGE:
        problem(client.request(method, path.replace("JOB", job["id"]).format(garbage)), 404)


@pytest.mark.parametrize(
    "query",
    [
        "/jobs?limit=0", "/jobs?limit=101", "/jobs?limit=x", "/jobs?limit=1e1",
        "/jobs?limit=99999999999999999999",
        "/jobs?status=done", "/jobs?after=x", "/jobs?after=job_%00", "/jobs?after=%27", "/jobs?name=%00",
        "/jobs?name=a%0Ab", "/jobs?name=", "/jobs/JOB/metrics?granularity=batch",
        "/jobs/JOB/metrics?after=-1",
        "/jobs/JOB/metrics?after=9223372036854775808", "/jobs/JOB/metrics?limit=1001",
        "/jobs/JOB/metrics?format=xml", "/jobs/JOB/events?after=x", "/jobs/JOB/events?limit=101",
        "/jobs/JOB/attempts?after=4294967296", "/jobs/JOB/checkpoints?after=%00", "/jobs/JOB/logs?attempt=0",
        "/jobs/JOB/logs?attempt=../../x", "/jobs/JOB/logs?max_bytes=99999999999", "/workers?after=%00",
        "/jobs/JOB/model?checkpoint=newest", "/jobs/JOB/model/content?checkpoint=ckpt_%00",
        "/jobs/compare?ids=JOB", "/jobs/compare?ids=JOB,JOB", "/jobs/compare?ids=,", "/jobs/compare?ids=JOB,",
        "/jobs/compare?ids=a,b,c,d,e,f,g",
    ],
)  # fmt: skip
def test_invalid_query_values_are_refused(
    client: TestClient, submit: Callable[..., Any], problem: Callable[..., Any], query: str
) -> None:
    body = problem(client.get(query.replace("JOB", submit()["id"])), 422, "validation_failed")
    assert body["errors"][0]["field"] in query
