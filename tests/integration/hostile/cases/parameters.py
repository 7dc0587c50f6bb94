"""Parameters of queries, ids in paths, and headers that mean something."""

from collections.abc import Iterator

from tests.integration.hostile.case import JSON, Case, asked

_QUERIES = [
    "/jobs?limit=0", "/jobs?limit=101", "/jobs?limit=x", "/jobs?limit=1e1", "/jobs?limit=-1", "/jobs?limit=",
    "/jobs?limit=99999999999999999999", "/jobs?limit=%00", "/jobs?limit=1.5", "/jobs?limit=0x10",
    "/jobs?limit=1_0",
    "/jobs?limit=%D9%A1", "/jobs?status=done", "/jobs?status=", "/jobs?status=queued%0A", "/jobs?after=x",
    "/jobs?after=job_%00", "/jobs?after=%27", "/jobs?name=%00", "/jobs?name=a%0Ab", "/jobs?name=",
    "/jobs?name=" + "x" * 201, "/jobs?created_after=now", "/jobs?created_after=2026-01-01T00:00:00",
    "/jobs?created_after=0001-01-01T00:00:00%2B23:59", "/jobs?created_before=9999-12-31T23:59:59-23:59",
    "/jobs?created_after=2026-02-30T00:00:00Z", "/jobs?created_before=" + "9" * 400, "/jobs?metadata=x",
    "/jobs?metadata[]=x", "/jobs?metadata[k]=a%0Ab", "/jobs?metadata[k]=1&metadata[k]=2",
    "/jobs?metadata.k=v",
    "/jobs?" + "&".join(f"metadata[{i}]=x" for i in range(17)), "/jobs?metadata[" + "k" * 65 + "]=v",
    "/jobs/JOB/metrics?granularity=batch", "/jobs/JOB/metrics?after=-1",
    "/jobs/JOB/metrics?after=9223372036854775808", "/jobs/JOB/metrics?limit=1001",
    "/jobs/JOB/metrics?format=xml",
    "/jobs/JOB/events?after=x", "/jobs/JOB/events?limit=101", "/jobs/JOB/attempts?after=4294967296",
    "/jobs/JOB/checkpoints?after=%00", "/jobs/JOB/checkpoints?after=JOB", "/jobs/JOB/logs?attempt=0",
    "/jobs/JOB/logs?attempt=../../x", "/jobs/JOB/logs?max_bytes=99999999999", "/jobs/JOB/logs?max_bytes=0",
    "/workers?after=%00", "/jobs/JOB/model?checkpoint=newest", "/jobs/JOB/model?checkpoint=",
    "/jobs/JOB/model/content?checkpoint=ckpt_%00", "/jobs/JOB/model/content?checkpoint=../x",
    "/jobs/JOB/stream?after=-1", "/jobs/JOB/stream?after=x", "/jobs/JOB/stream?after=99999999999",
    "/jobs/JOB/drills?after=%1b", "/jobs/compare?ids=JOB", "/jobs/compare?ids=JOB,JOB", "/jobs/compare?ids=,",
    "/jobs/compare?ids=JOB,", "/jobs/compare?ids=a,b,c,d,e,f,g",
    "/jobs/compare?ids=" + "a," * 300, "/jobs/compare",
    "/jobs/compare?ids=CANCELLED,JOB&limit=1001", "/datasets?after=x", "/datasets?limit=0", "/keys?after=%00",
    "/webhooks?limit=1000", "/webhooks?after=%0a",
]  # fmt: skip

_GARBAGE = [
    "x", "job_", "job_%00", "job_%7F", "%ff", "..;", "%2fetc", "job_" + "a" * 5000, "job_a'b", "1", "-1",
    "job_%C3%A4", "%7B%7D", "null", "*", "job_0000%20OR%201=1", "%F0%9F%92%A9", "job_%E2%80%AE", "%252e%252e",
    "job_a%0d%0aX-Injected:%201", "undefined", "__proto__", "job_a;b", "job_a%3Fb",
]  # fmt: skip
_WITH_IDS = [
    ("GET", "/jobs/{}"), ("PATCH", "/jobs/{}"), ("DELETE", "/jobs/{}"), ("POST", "/jobs/{}/cancel"),
    ("POST", "/jobs/{}/clone"), ("GET", "/jobs/{}/metrics"), ("GET", "/jobs/{}/stream"), ("GET",
    "/jobs/{}/logs"),
    ("GET", "/jobs/{}/model/content"), ("POST", "/jobs/{}/predict"), ("POST", "/jobs/{}/drill"),
    ("GET", "/jobs/JOB/checkpoints/{}/content"), ("GET", "/datasets/{}"), ("DELETE", "/datasets/{}"),
    ("GET", "/webhooks/{}"), ("DELETE", "/webhooks/{}"), ("GET", "/webhooks/{}/deliveries"),
    ("POST", "/webhooks/wh_1/deliveries/{}/redeliver"), ("DELETE", "/keys/{}"), ("POST", "/workers/{}/drain"),
]  # fmt: skip
#: Each route has a few, and each few of them another route.
_EACH = 6


def _cases() -> Iterator[Case]:
    for query in _QUERIES:
        yield asked(query)
    for place, (method, path) in enumerate(_WITH_IDS):
        for offset in range(_EACH):
            garbage = _GARBAGE[(place * _EACH + offset) % len(_GARBAGE)]
            at = path.format(garbage)
            content = b"{}" if method in {"POST", "PATCH"} else b""
            who = "operator" if path.startswith("/workers") else "acme"
            headers = {"Content-Type": "image/png"} if path.endswith("predict") else JSON
            yield Case(f"{method} {ascii(at)[:60]}", method, at, 404, "not_found", content, headers, who)
    for key in ("", "x" * 256, "a b", b"\xc3\xa4", "\x7f"):
        headers = JSON | {"Idempotency-Key": key}
        yield Case(f"Idempotency-Key {ascii(key)[:20]}", "POST", "/jobs/JOB/retry",
        422, "validation_failed", b"{}",
                   headers, at="idempotency-key")  # fmt: skip
    for value in ("x", "-1", "99999999999999999999", "1.5", "0x1", ""):
        yield asked("/jobs/JOB/stream", headers={"Last-Event-ID": value}, at="last-event-id")
    for value in ("maybe", "2", ""):
        content = b'{"dataset": {"path": "flowers"}, "model": {"weights": null}}'
        yield Case(f"dry_run={value}", "POST", f"/jobs?dry_run={value}", 422, "validation_failed",
        content, JSON,
                   at="dry_run")  # fmt: skip
    for query in ("top_k=0", "top_k=1001", "top_k=x", "checkpoint=newest", "checkpoint=../../x"):
        yield Case(f"predict?{query}", "POST", f"/jobs/JOB/predict?{query}", 422, "validation_failed", b"x",
                   {"Content-Type": "image/png"})  # fmt: skip
    yield Case("a job is no dataset", "GET", "/datasets/JOB", 404, "not_found")
    yield Case(
        "a checkpoint of another job", "GET", "/jobs/CANCELLED/checkpoints/CKPT/content", 404, "not_found"
    )


CASES = list(_cases())
