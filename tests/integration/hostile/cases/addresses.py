"""Addresses that lead nowhere, methods that nobody offers, and states that do not allow it."""

from collections.abc import Iterator

from tests.integration.hostile.case import JSON, Case

_NOWHERE = [
    "/nope", "/jobs/", "/jobs/JOB/nope", "/health", "//jobs", "/v1", "/v2/jobs", "/", "/.env", "/.git/config",
    "/admin", "/jobs/JOB/../../etc/passwd", "/static/..%2f..%2fetc%2fpasswd", "/docs/..%2f..%2fapi%2fapp.py",
    "/%2e%2e/%2e%2e/etc/passwd", "/jobs%2f", "/jobs;x=1", "/jobs%00", "/JOBS", "/jobs.json", "/v1/v1/jobs",
    "/openapi.json/x", "/" + "a" * 30_000, "/" + "a/" * 10_000, "/%ff%fe", "/jobs/JOB/checkpoints/CKPT",
    "/jobs/JOB/checkpoints/last/content/", "/metrics/x", "/health/ready/x", "/health/nope", "/debug/pprof",
]  # fmt: skip
_METHODS = [
    ("DELETE", "/jobs"), ("PUT", "/jobs/JOB"), ("GET", "/jobs/JOB/cancel"), ("TRACE", "/jobs"), ("OPTIONS",
    "/jobs"),
    ("CONNECT", "/jobs"), ("PATCH", "/jobs"), ("POST", "/jobs/JOB"), ("DELETE", "/health/live"), ("POST",
    "/metrics"),
    ("HEAD", "/jobs/JOB/cancel"), ("PROPFIND", "/jobs"), ("POST", "/openapi.json"),
    ("QUERY", "/jobs"), ("BREW", "/models"), ("PUT", "/datasets"), ("DELETE", "/v1/jobs"),
]  # fmt: skip


def _cases() -> Iterator[Case]:
    for path in _NOWHERE:
        yield Case(f"{ascii(path)[:60]}", "GET", path, 404, "not_found", who="operator")
    for method, path in _METHODS:
        yield Case(f"{method} {path}", method, path, 405, "method_not_allowed", who="operator")
    for verb in ("cancel", "pause", "resume", "retry"):
        yield Case(f"{verb} what has succeeded", "POST", f"/jobs/JOB/{verb}", 409, "wrong_state", b"{}", JSON)
    yield Case("extend what was cancelled", "POST", "/jobs/CANCELLED/extend", 409, "wrong_state",
               b'{"additional_epochs": 1}', JSON)  # fmt: skip
    yield Case("a model before there is one", "GET", "/jobs/CANCELLED/model", 409, "wrong_state")
    yield Case("its weights", "GET", "/jobs/CANCELLED/model/content", 409, "wrong_state")
    yield Case("its checkpoint", "GET", "/jobs/CANCELLED/checkpoints/last/content", 404, "not_found")
    yield Case(
        "drills are off",
        "POST",
        "/jobs/JOB/drill",
        403,
        "drills_disabled",
        b'{"fault": "kill_trainer"}',
        JSON,
    )


CASES = list(_cases())
