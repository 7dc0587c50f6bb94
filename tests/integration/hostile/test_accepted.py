"""What looks like an attack and is none: taken literally, shown as it is, and cheap."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.hostile.attacked import Attacked
from tests.integration.hostile.case import JSON, SPEC, ZIP
from tests.integration.hostile.cases.uploads import PLAIN
from tests.integration.hostile.oracle import Oracle

TEXTS = [
    "<script>alert(1)</script>", "'; DROP TABLE jobs; --", '" OR ""="', "{{7*7}}",
    "${jndi:ldap://127.0.0.1/x}",
    "#{7*7}", "<%= 7*7 %>", "%s%n%x", "日本語 🌷", "=HYPERLINK(1)", "[red]x[/red]", "\\x1b[31m",
    "../../etc/passwd",
    "\u202egpj.exe", "a\u0301", "ﬁ", "null", "-1", "{}",
]  # fmt: skip


@pytest.fixture
def job_id(attacked: Attacked, oracle: Oracle) -> Iterator[str]:
    """A job that may be renamed."""
    yield attacked.names["CANCELLED"]
    attacked.send("PATCH", f"/jobs/{attacked.names['CANCELLED']}", json={"name": None, "metadata": None})
    oracle.remember()


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_strings_that_are_code_elsewhere_are_taken_literally(
    attacked: Attacked, job_id: str, text: str
) -> None:
    named = {"name": text, "metadata": {text[:60]: text}}
    answer = attacked.send("POST", "/jobs?dry_run=true", json=SPEC | named)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert attacked.send("PATCH", f"/jobs/{job_id}", json=named).status_code == 200
    shown = attacked.send("GET", f"/jobs/{job_id}").json()
    assert (shown["name"], shown["metadata"]) == (text, {text[:60]: text})
    for filters in ({"name": text}, {f"metadata[{text[:60]}]": text}):
        found = attacked.send("GET", "/jobs", params=filters).json()["data"]
        assert [job["id"] for job in found] == [job_id]
    streamed = attacked.send("GET", f"/jobs/{job_id}/stream")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    [line] = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert json.loads(line.removeprefix("data: "))["job"]["name"] == text


def test_a_terminal_shows_them_as_they_are(attacked: Attacked, job_id: str) -> None:
    text = "[red]x[/red] [link=http://127.0.0.1]y[/link] \u202egpj.exe"
    attacked.send("PATCH", f"/jobs/{job_id}", json={"name": text})
    shown = subprocess.run(
        [sys.executable, "-m", "perdure", "show", job_id],
        env={"PATH": "/usr/bin:/bin", "PERDURE_URL": attacked.stack.url, "COLUMNS": "200",
             "PERDURE_API_KEY": attacked.keys["acme"], "FORCE_COLOR": "1"},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "[red]x[/red]" in shown and "[link=" in shown
    assert "\u202e" not in shown and "\x1b]8" not in shown


@pytest.mark.parametrize(
    "header",
    ["bytes=" + ",".join(["0-0"] * 10_000), "bytes=" + "0-," * 10_000, "bytes=9-1",
    "lines=1-2",
     "bytes=" + "9" * 50_000 + "-"],
    ids=["10⁴ parts", "10⁴ times all of it", "backwards", "another unit", "50 000 digits"],
)  # fmt: skip
def test_a_range_that_is_none_is_cheap(attacked: Attacked, oracle: Oracle, header: str) -> None:
    path = attacked.named("/jobs/JOB/checkpoints/CKPT/content")
    whole = attacked.send("GET", path)
    began = time.perf_counter()
    answer = attacked.send("GET", path, headers={"Range": header})
    assert time.perf_counter() - began < 5.0
    assert answer.status_code == 200 and answer.content == whole.content
    oracle.expect_as_before()


@pytest.mark.parametrize(
    ("path", "known_length"),
    [("/jobs", True), ("/jobs/JOB", True), ("/jobs/JOB/metrics?format=csv", False), ("/health/live", True),
     ("/jobs/JOB/checkpoints/CKPT/content", True), ("/jobs/JOB/stream?after=0", False), ("/openapi.json",
     True),
     ("/v1/jobs", True), ("/jobs/JOB/logs", True), ("/docs", True)],
)  # fmt: skip
def test_head_is_get_without_its_body(
    attacked: Attacked, oracle: Oracle, path: str, known_length: bool
) -> None:
    got, head = (attacked.send(method, attacked.named(path)) for method in ("GET", "HEAD"))
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    kept = {"content-type", "etag", "content-disposition", "accept-ranges", "cache-control"}
    assert {k: v for k, v in head.headers.items() if k in kept} == {
        k: v for k, v in got.headers.items() if k in kept
    }
    assert not known_length or head.headers["content-length"] == str(len(got.content))
    oracle.expect_as_before()


def test_a_misspelt_method_of_a_form_is_no_way_around(attacked: Attacked, oracle: Oracle) -> None:
    body: dict[str, Any] = {"_method": "DELETE"}
    answer = attacked.send("POST", attacked.named("/jobs/JOB?_method=DELETE"), json=body)
    assert answer.status_code == 405
    answer = attacked.send("GET", attacked.named("/jobs/JOB"), headers=JSON | {"X-HTTP-Method": "DELETE"})
    assert answer.status_code == 200
    oracle.expect_as_before()


def test_after_all_that_an_honest_archive_is_taken(attacked: Attacked, oracle: Oracle) -> None:
    answer = attacked.send("POST", "/datasets", content=PLAIN, headers=ZIP)
    assert answer.status_code == 202, answer.text
    assert len(attacked.files()) == len(oracle.files) + 1
    assert attacked.send("DELETE", answer.headers["location"]).status_code == 204
    assert attacked.files() == oracle.files
    oracle.remember()
