"""Callers without a key, with a wrong one, and with one that is not for this."""

from collections.abc import Iterator

from tests.integration.hostile.attacked import OPERATOR_KEY
from tests.integration.hostile.case import JSON, SPEC, Case, posted

_NO_KEYS: dict[str, str | bytes] = {
    "an empty header": "", "only a scheme": "Bearer",
        "a key without a scheme": OPERATOR_KEY, "another scheme": f"Basic {OPERATOR_KEY}",
    "a letter too many": f"Bearer {OPERATOR_KEY}x", "a letter too few": f"Bearer {OPERATOR_KEY[:-1]}",
    "in capitals": f"Bearer {OPERATOR_KEY.upper()}", "two keys": f"Bearer {OPERATOR_KEY}, {OPERATOR_KEY}",
    "a key of that form": f"Bearer pdr_{'0' * 32}_{'A' * 43}", "60 000 letters": f"Bearer {'x' * 60_000}",
    "letters of Latin-1": "Bearer \xe9".encode("latin-1"), "broken UTF-8": b"Bearer \xff\xfe",
    "null": "Bearer null", "a percent escape": "Bearer %00", "SQL": "Bearer ' OR 1=1 --",
}  # fmt: skip
_GUARDED = [
    ("GET", "/jobs"), ("GET", "/jobs/JOB"), ("POST", "/jobs"), ("GET", "/workers"), ("GET", "/models"),
    ("GET", "/keys"),
    ("GET", "/version"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/nope"),
    ("GET", "/v1/jobs"), ("GET", "/healthy"), ("GET", "/"), ("POST", "/datasets"), ("DELETE", "/jobs/JOB"),
    ("HEAD", "/jobs"), ("OPTIONS", "/jobs"), ("GET", "/v1/health"), ("GET", "/health/../jobs"),
    ("GET", "/v1/v1/jobs"), ("GET", "//jobs"), ("GET", "/jobs/JOB/stream"),
    ("GET", "/jobs/JOB/checkpoints/CKPT/content"),
]  # fmt: skip
#: Whatever may be asked of a job; that it is there is told only to its tenant.
_OF_JOBS = [
    ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"),
    ("POST", "/retry"), ("POST", "/clone"), ("GET", "/metrics"), ("GET", "/metrics?format=csv"), ("GET",
    "/events"),
    ("GET", "/attempts"), ("GET", "/checkpoints"), ("GET", "/logs"), ("GET", "/stream"), ("GET",
    "/stream?after=0"),
    ("GET", "/model"), ("GET", "/model/content"), ("GET", "/checkpoints/last/content"), ("GET", "/drills"),
    ("HEAD", ""), ("HEAD", "/stream"), ("HEAD", "/checkpoints/last/content"),
]  # fmt: skip


def _cases() -> Iterator[Case]:
    for method, path in _GUARDED:
        yield Case(f"no key: {method} {path}", method, path, 401, "unauthenticated", who="")
    for name, header in _NO_KEYS.items():
        yield Case(name, "GET", "/jobs", 401, "unauthenticated", headers={"Authorization": header}, who="")
    yield Case("a revoked key", "GET", "/jobs", 401, "unauthenticated", who="revoked")
    yield Case("a key in the query", "GET", f"/jobs?api_key={OPERATOR_KEY}", 401, "unauthenticated", who="")
    yield Case(
        "a key in a cookie",
        "GET",
        "/jobs",
        401,
        "unauthenticated",
        headers={"Cookie": f"key={OPERATOR_KEY}"},
        who="",
    )
    yield posted("a submission without a key", "/jobs", SPEC, "unauthenticated", status=401, who="")
    for method, path in _OF_JOBS:
        content = b"{}" if method in {"POST", "PATCH"} else b""
        headers = JSON if content else {}
        yield Case(
            f"another tenant's: {method} {path}",
            method,
            f"/jobs/JOB{path}",
            404,
            "not_found",
            content,
            headers,
            "other",
        )
    yield Case(
        "another tenant's in a comparison", "GET", "/jobs/compare?ids=CANCELLED,OTHER_JOB", 404, "not_found"
    )
    yield Case("a parent of another tenant", "GET", "/jobs/OTHER_JOB", 404, "not_found", who="operator")
    for verb in ("cancel", "pause", "resume", "retry", "clone"):
        yield posted(
            f"a key that reads: {verb}",
            f"/jobs/JOB/{verb}",
            {},
            "insufficient_scope",
            status=403,
            who="acme-reads",
        )
    for method, path in (
        ("POST", "/jobs"), ("DELETE", "/jobs/JOB"), ("PATCH", "/jobs/JOB"), ("POST", "/datasets"), ("POST",
        "/webhooks"),
        ("GET", "/keys"), ("POST", "/v1/jobs"), ("POST", "/nope"),
    ):  # fmt: skip
        yield Case(
            f"a key that reads: {method} {path}", method, path, 403, "insufficient_scope", who="acme-reads"
        )
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/key_1"), ("GET", "/v1/keys")):
        yield Case(
            f"a key that writes: {method} {path}", method, path, 403, "insufficient_scope", who="acme-writes"
        )
    for method, path in (("GET", "/metrics"), ("POST", "/workers/wrk_1/drain"), ("GET", "/v1/metrics")):
        yield Case(f"not the operator's: {method} {path}", method, path, 403, "operator_only", who="acme")
    yield posted("a full queue", "/jobs", SPEC, "quota_exceeded", status=429, who="full")


CASES = list(_cases())
