"""Bodies that no honest client sends: refused for a stated reason, and nothing is left behind."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

GOOD = b'{"dataset": {"path": "flowers"}, "model": {"weights": null}}'


def with_field(text: str) -> bytes:
    return GOOD.replace(b"{", b"{" + text.encode() + b", ", 1)


BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 415, "unsupported_media_type"),
    "not JSON": (b"{", 400, "invalid_json"),
    "two values": (GOOD + GOOD, 400, "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, "invalid_json"),
    "nested 100 000 deep": (b"[" * 100_000, 400, "invalid_json"),
    "nested objects": (b'{"a":' * 100_000, 400, "invalid_json"),
    "nested within a field": (with_field('"metadata": ' + "[" * 99_000 + "]" * 99_000), 400, "invalid_json"),
    "nested 100 deep": (b"[" * 100 + b"]" * 100, 422, "validation_failed"),
    "an array": (b"[]", 422, "validation_failed"),
    "a string": (b'"x"', 422, "validation_failed"),
    "null": (b"null", 422, "validation_failed"),
    "invalid UTF-8": (b'{"name": "\xff"}', 400, "invalid_utf8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "invalid_utf8"),
    "duplicate keys": (with_field('"seed": 1, "seed": 2'), 422, "validation_failed"),
    "duplicate keys within": (GOOD.replace(b'"path"', b'"path": "a", "path"'), 422, "validation_failed"),
    "unknown field": (with_field('"sed": 1'), 422, "validation_failed"),
    "NaN": (with_field('"hyperparameters": {"lr": NaN}'), 422, "validation_failed"),
    "Infinity": (with_field('"hyperparameters": {"lr": Infinity}'), 422, "validation_failed"),
    "-Infinity": (with_field('"hyperparameters": {"lr": -Infinity}'), 422, "validation_failed"),
    "1e999": (with_field('"hyperparameters": {"lr": 1e999}'), 422, "validation_failed"),
    "ten thousand digits": (with_field('"seed": ' + "9" * 10_000), 422, "validation_failed"),
    "lone surrogate": (with_field(r'"name": "\ud800"'), 422, "validation_failed"),
    "lone surrogate as a key": (with_field(r'"metadata": {"\udfff": "x"}'), 422, "validation_failed"),
    "lone surrogate, nested": (with_field(r'"metadata": {"x": ["\ud800"]}'), 422, "validation_failed"),
    "80 000 unknown fields": (
        json.dumps({f"k{i:05d}": 1 for i in range(80_000)}).encode(), 422, "validation_failed",
    ),
    "500 000 numbers": (b"[" + b"1," * 499_999 + b"1]", 422, "validation_failed"),
    "more than a MiB": (GOOD + b" " * 2**20, 413, "body_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_quickly_and_leaves_nothing(
    client: TestClient, num_jobs: Callable[[], int], bell: Any, problem: Callable[..., Any], name: str
) -> None:
    content, status, code = BODIES[name]
    headers = {"Content-Type": "application/json"} if content else {}
    began = time.monotonic()
    response = client.post("/jobs", content=content, headers=headers)
    assert time.monotonic() - began < 1.0
    problem(response, status, code)
    assert len(response.content) < 20_000
    assert num_jobs() == 0 and bell.rings == []


def test_the_good_body_is_good(client: TestClient) -> None:
    response = client.post("/jobs", content=GOOD, headers={"Content-Type": "application/json"})
    assert response.status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json; charset=utf-16", "application/jsonp", "json", "\x80",
    ],
)  # fmt: skip
def test_other_content_types_are_refused(
    client: TestClient, num_jobs: Callable[[], int], problem: Callable[..., Any], content_type: str | None
) -> None:
    headers: Any = {} if content_type is None else {"Content-Type": content_type.encode("latin-1")}
    problem(client.post("/jobs", content=GOOD, headers=headers), 415, "unsupported_media_type")
    assert num_jobs() == 0


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_content_types_are_taken(client: TestClient, content_type: str) -> None:
    assert client.post("/jobs", content=GOOD, headers={"Content-Type": content_type}).status_code == 201


def test_a_large_body_is_refused_by_its_announced_length(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(10**11)}
    response = client.post("/jobs", content=b"{}", headers=headers)
    problem(response, 413, "body_too_large")
    assert response.headers["connection"] == "close"


def test_a_body_that_never_ends_is_counted_while_it_streams(
    client: TestClient, problem: Callable[..., Any], num_jobs: Callable[[], int]
) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 2**16
            yield b" " * 2**16

    response = client.post("/jobs", content=endless(), headers={"Content-Type": "application/json"})
    problem(response, 413, "body_too_large")
    assert num_jobs() == 0


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"force": true}', 422), (b"[]", 422), (b"x", 400), (b" " * (2**20 + 1), 413)],
)
def test_bodies_of_requests_that_need_none(
    client: TestClient,
    submit: Callable[..., Any],
    problem: Callable[..., Any],
    verb: str,
    content: bytes,
    status: int,
) -> None:
    job = submit()
    headers = {"Content-Type": "application/json"}
    problem(client.post(f"/jobs/{job['id']}/{verb}", content=content, headers=headers), status)
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "queued"


def test_errors_name_the_fields_and_not_the_members_of_unions(
    client: TestClient, problem: Callable[..., Any]
) -> None:
    spec = {
        "dataset": {"path": 1},
        "model": {"weights": {"fil": "x"}, "freeze": "all"},
        "hyperparameters": {"epochs": "4"},
        "metadata": {"ok": 1},
    }
    body = problem(client.post("/jobs", json=spec), 422, "validation_failed")
    fields = {error["field"] for error in body["errors"]}
    assert fields == {
        "dataset.path", "model.weights", "model.weights.file", "model.weights.fil", "model.freeze",
        "hyperparameters.epochs", "metadata.ok",
    }  # fmt: skip


def test_many_errors_and_long_names_are_cut(client: TestClient, problem: Callable[..., Any]) -> None:
    spec = {f"{i}{'x' * 5000}": 1 for i in range(150)}
    response = client.post("/jobs", content=json.dumps(spec), headers={"Content-Type": "application/json"})
    assert len(problem(response, 422)["errors"]) == 50
    assert len(response.content) < 30_000


def test_what_was_sent_is_not_echoed(client: TestClient, problem: Callable[..., Any]) -> None:
    response = client.post("/jobs", json={"dataset": {"path": "flowers"}, "seed": "s3cret-value"})
    problem(response, 422)
    assert "s3cret-value" not in response.text
