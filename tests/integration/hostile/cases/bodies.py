"""Bodies that no honest client sends, to every route that reads one."""

import gzip
import json
from collections.abc import Iterator

from tests.integration.hostile.case import JSON, SPEC, Case, Content

GOOD = json.dumps(SPEC).encode()


def _with(text: str) -> bytes:
    return GOOD.replace(b"{", b"{" + text.encode() + b", ", 1)


_BODIES: dict[str, tuple[Content, int, str]] = {
    "not JSON": (b"{", 400, "invalid_json"),
    "two values": (GOOD + GOOD, 400, "invalid_json"),
    "a comma too many": (b'{"name": "x",}', 400, "invalid_json"),
    "a comment": (b"{/* */}", 400, "invalid_json"),
    "single quotes": (b"{'name': 'x'}", 400, "invalid_json"),
    "a leading zero": (_with('"seed": 01'), 400, "invalid_json"),
    "a raw newline in a string": (b'{"name": "a\nb"}', 400, "invalid_json"),
    "a raw NUL": (b'{"name": "a\0b"}', 400, "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, "invalid_json"),
    "nested 100 000 deep": (b"[" * 100_000, 400, "invalid_json"),
    "nested and closed": (b"[" * 100_000 + b"]" * 100_000, 400, "invalid_json"),
    "nested objects": (b'{"a":' * 100_000, 400, "invalid_json"),
    "nested within a field": (_with('"metadata": ' + "[" * 99_000 + "]" * 99_000), 400, "invalid_json"),
    "nested 100 deep": (b"[" * 100 + b"]" * 100, 422, "validation_failed"),
    "an array": (b"[]", 422, "validation_failed"),
    "an array of specs": (b"[" + GOOD + b"]", 422, "validation_failed"),
    "a string": (b'"x"', 422, "validation_failed"),
    "a number": (b"1", 422, "validation_failed"),
    "null": (b"null", 422, "validation_failed"),
    "invalid UTF-8": (b'{"name": "\xff"}', 400, "invalid_utf8"),
    "overlong UTF-8": (b'{"name": "\xc0\xaf"}', 400, "invalid_utf8"),
    "an encoded surrogate": (b'{"name": "\xed\xa0\x80"}', 400, "invalid_utf8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "invalid_utf8"),
    "compressed": (gzip.compress(GOOD), 400, "invalid_utf8"),
    "duplicate keys": (_with('"seed": 1, "seed": 2'), 422, "validation_failed"),
    "duplicate keys within": (GOOD.replace(b'"path"', b'"path": "a", "path"'), 422, "validation_failed"),
    "duplicate keys, one escaped": (_with(r'"seed": 1, "s\u0065ed": 2'), 422, "validation_failed"),
    "an unknown field": (_with('"sed": 1'), 422, "validation_failed"),
    "an unknown field within": (_with('"hyperparameters": {"batchsize": 1}'), 422, "validation_failed"),
    "__proto__": (_with('"__proto__": {"seed": 1}'), 422, "validation_failed"),
    "NaN": (_with('"hyperparameters": {"lr": NaN}'), 422, "validation_failed"),
    "Infinity": (_with('"hyperparameters": {"lr": Infinity}'), 422, "validation_failed"),
    "-Infinity": (_with('"hyperparameters": {"lr": -Infinity}'), 422, "validation_failed"),
    "1e999": (_with('"hyperparameters": {"lr": 1e999}'), 422, "validation_failed"),
    "ten thousand digits": (_with('"seed": ' + "9" * 10_000), 422, "validation_failed"),
    "ten thousand decimals": (
        _with('"hyperparameters": {"lr": 0.' + "9" * 9999 + "e999}"), 422, "validation_failed",
    ),
    "lone surrogate": (_with(r'"name": "\ud800"'), 422, "validation_failed"),
    "lone surrogate as a key": (_with(r'"metadata": {"\udfff": "x"}'), 422, "validation_failed"),
    "lone surrogate, nested": (_with(r'"metadata": {"x": ["\ud800"]}'), 422, "validation_failed"),
    "surrogates the wrong way round": (_with(r'"name": "\ude00\ud83d"'), 422, "validation_failed"),
    "80 000 unknown fields": (
        lambda: json.dumps({f"k{i:05d}": 1 for i in range(80_000)}).encode(), 422, "validation_failed",
    ),
    "500 000 numbers": (lambda: b"[" + b"1," * 499_999 + b"1]", 422, "validation_failed"),
    "150 long names": (
        lambda: json.dumps({f"{i}{'x' * 5000}": 1 for i in range(150)}).encode(), 422, "validation_failed",
    ),
    "more than a MiB": (lambda: GOOD + b" " * 2**20, 413, "body_too_large"),
    "100 MB": (lambda: b" " * (100 * 10**6), 413, "body_too_large"),
}  # fmt: skip

#: Every route that reads JSON, but for that of submissions.
ROUTES = [
    ("PATCH", "/jobs/JOB"), ("POST", "/jobs/JOB/clone"), ("POST", "/jobs/JOB/cancel"), ("POST",
    "/jobs/JOB/pause"),
    ("POST", "/jobs/JOB/resume"), ("POST", "/jobs/JOB/retry"), ("POST", "/jobs/JOB/extend"),
    ("POST", "/jobs/JOB/drill"), ("POST", "/datasets"), ("POST", "/webhooks"), ("POST", "/keys"),
    ("POST", "/v1/jobs"),
]  # fmt: skip
_TO_ALL: dict[str, tuple[bytes, int, str]] = {
    "not JSON": (b"{", 400, "invalid_json"),
    "an array": (b"[]", 422, "validation_failed"),
    "an unknown field": (b'{"force": true}', 422, "validation_failed"),
    "a duplicate key": (b'{"a": 1, "a": 1}', 422, "validation_failed"),
    "invalid UTF-8": (b'{"\xff": 1}', 400, "invalid_utf8"),
    "a lone surrogate": (rb'{"\ud800": 1}', 422, "validation_failed"),
    "NaN": (b'{"a": NaN}', 422, "validation_failed"),
    "nested 50 000 deep": (b'{"a":' * 50_000, 400, "invalid_json"),
    "more than a MiB": (b" " * (2**20 + 1), 413, "body_too_large"),
}
_TYPES = [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/json; charset=utf-16", "application/json; charset=latin-1", "application/jsonp", "json",
    "\x80",
    "application/xml", "text/json", "application/json, text/plain", "a" * 5000,
]  # fmt: skip


def _cases() -> Iterator[Case]:
    for name, (content, status, code) in _BODIES.items():
        yield Case(name, "POST", "/jobs", status, code, content, JSON)
    for method, path in ROUTES:
        for name, (content, status, code) in _TO_ALL.items():
            yield Case(f"{method} {path}: {name}", method, path, status, code, content, JSON)
        yield Case(f"{method} {path}: plain text", method, path, 415, "unsupported_media_type", b"{}",
                   {"Content-Type": "text/plain"})  # fmt: skip
    for kind in _TYPES:
        headers: dict[str, str | bytes] = {"Content-Type": kind.encode("latin-1")} if kind else {}
        yield Case(f"as {ascii(kind)[:40]}", "POST", "/jobs", 415, "unsupported_media_type", GOOD, headers)
    yield Case("nothing", "POST", "/jobs", 415, "unsupported_media_type")
    yield Case("nothing as JSON", "POST", "/jobs", 400, "invalid_json", b"", JSON)
    yield Case("spaces", "POST", "/jobs", 400, "invalid_json", b"   ", JSON)


CASES = list(_cases())
