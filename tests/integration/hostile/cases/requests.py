"""Headers and bodies of requests for files: ranges, forms, images, replayed keys."""

from collections.abc import Iterator

from tests.integration.hostile.case import JSON, Case

CONTENT = "/jobs/JOB/checkpoints/CKPT/content"
PREDICT = "/jobs/JOB/predict"
_HEAD = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
_FORM = {"Content-Type": "multipart/form-data; boundary=b"}
_FORMS: dict[str, tuple[bytes, int, str]] = {
    "no file": (
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--b--\r\n', 422, "image_invalid",
    ),
    "an empty file": (b"--b\r\n" + _HEAD + b"\r\n\r\n\r\n--b--\r\n", 422, "image_invalid"),
    "cut short": (b"--b\r\n" + _HEAD + b"\r\n\r\nhalf an ima", 400, "invalid_form"),
    "very many parts": (b"--b\r\n\r\nx\r\n" * 10_000 + b"--b--\r\n", 400, "invalid_form"),
    "another boundary": (b"--c\r\n\r\nx\r\n--c--\r\n", 400, "invalid_form"),
    "a program as a file": (
        b"--b\r\n" + _HEAD.replace(b"image/png", b"text/x-python") + b"\r\n\r\nx\r\n--b--\r\n", 415,
        "unsupported_media_type",
    ),
    "a header without end": (b"--b\r\nContent-Disposition: " + b"x" * 10**6 + b"\r\n--b--\r\n",
    422, "image_invalid"),
    "cut in its head": (b"--b\r\n" + _HEAD + b"\r\n--b--", 422, "image_invalid"),
    "no parts": (b"image", 400, "invalid_form"),
    "nothing": (b"", 400, "invalid_form"),
}  # fmt: skip


def _cases() -> Iterator[Case]:
    for value in ("bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=999999999999999999-"):
        yield Case(f"Range {value}", "GET", CONTENT, 416, "range_not_satisfiable", headers={"Range": value})
    for name, (content, status, code) in _FORMS.items():
        yield Case(f"a form with {name}", "POST", PREDICT, status, code, content, _FORM)
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 71}",
    ):
        yield Case(
            f"a form of {kind[:40]}", "POST", PREDICT, 400, "invalid_form", b"--b--", {"Content-Type": kind}
        )
    for kind in (
        "",
        "image/svg+xml",
        "text/html",
        "application/json",
        "application/pdf",
        "image",
        "multipart/mixed",
    ):
        headers = {"Content-Type": kind} if kind else {}
        yield Case(f"an image as {kind}", "POST", PREDICT, 415, "unsupported_media_type", b"x", headers)
    png = {"Content-Type": "image/png"}
    yield Case("no image", "POST", PREDICT, 422, "image_invalid", b"", png)
    yield Case("an image of 17 MB", "POST", PREDICT, 413, "body_too_large", lambda: bytes(17 * 2**20), png)
    yield Case("a key that had another body", "POST", "/jobs/JOB/clone", 422, "idempotency_key_reused", b"{}",
               JSON | {"Idempotency-Key": "used"})  # fmt: skip
    yield Case("a key whose request is under way", "POST", "/jobs/JOB/retry", 409, "idempotency_in_flight",
    b"{}",
               JSON | {"Idempotency-Key": "under-way"})  # fmt: skip
    yield Case("a refused request with a key", "POST", "/jobs/JOB/retry", 409, "wrong_state", b"{}",
               JSON | {"Idempotency-Key": "fresh"})  # fmt: skip
    for name, value in (
        ("X-Request-Id", b"a\x1b[31m"), ("X-Request-Id", "x" * 10_000), ("X-Forwarded-For", "127.0.0.1"),
        ("X-Original-URL", "/jobs"), ("X-HTTP-Method-Override", "GET"), ("Host", "evil.example"),
        ("Upgrade", "websocket"), ("Accept", "application/xml"), ("Accept-Encoding", "gzip;q=1.0, *;q=0"),
        ("Cookie", "a=b; " * 5000 + "a=b"), ("Forwarded", "for=_secret"), ("If-None-Match", "*"), ("Expect",
        "200-ok"),
    ):  # fmt: skip
        yield Case(
            f"{name}: {ascii(value)[:30]}", "PUT", "/jobs", 405, "method_not_allowed", headers={name: value}
        )


CASES = list(_cases())
