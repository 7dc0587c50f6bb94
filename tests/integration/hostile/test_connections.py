"""What is sent over a connection that is no request, or one without end."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.integration.hostile.attacked import Attacked
from tests.integration.hostile.oracle import Oracle
from tests.servers.waiting import until

#: What one of them may make the process hold; all of it comes back.
MEMORY_BYTES = 16 * 2**20


class Line:
    """A connection of one's own."""

    def __init__(self, attacked: Attacked, who: str = "acme") -> None:
        self._socket = socket.create_connection(("127.0.0.1", attacked.stack.port), timeout=20)
        self.key = f"Authorization: Bearer {attacked.keys[who]}\r\n".encode()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, content: bytes) -> None:
        self._socket.sendall(content)

    def ask(self, first_line: bytes, *headers: bytes) -> None:
        """The head of a request, with the key."""
        self.say(first_line + b"\r\n" + self.key + b"".join(header + b"\r\n" for header in headers) + b"\r\n")

    def answer(self) -> bytes:
        """Everything until the server closes; a reset after the answer is an end, too."""
        received = b""
        with suppress(ConnectionResetError):
            while part := self._socket.recv(65536):
                received += part
        return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


NO_HTTP: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "only a method": b"GET",
    "zeros": bytes(1000),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM",
    "HTTP/9.9": b"GET /jobs HTTP/9.9",
    "no version": b"GET /jobs",
    "no host": b"GET /jobs HTTP/1.1",
    "two hosts": b"GET /jobs HTTP/1.1\r\nHost: a\r\nHost: b",
    "a header without a colon": b"GET /jobs HTTP/1.1\r\nHost: x\r\nnonsense",
    "a space before the colon": b"GET /jobs HTTP/1.1\r\nHost: x\r\nX-A : b",
    "a folded header": b"GET /jobs HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c: d\r\n\x00",
    "NUL in a header": b"GET /jobs HTTP/1.1\r\nHost: x\r\nX-A: b\0c",
    "a length below zero": b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1",
    "two lengths": b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3",
    "a length in words": b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: two",
    "a length of 5 000 digits": b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000,
    "an unknown encoding": b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
    "a control character in the address": b"GET /jobs\x01 HTTP/1.1\r\nHost: x",
    "Redis": b"*1\r\n$4\r\nPING",
    "SMTP": b"EHLO x",
}


@pytest.mark.parametrize("said", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_and_closed(oracle: Oracle, attacked: Attacked, said: bytes) -> None:
    began = time.monotonic()
    with Line(attacked) as line:
        line.say(said + b"\r\n\r\n")
        answer = line.answer()
    assert time.monotonic() - began < 5.0
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in head, answer
    problem = json.loads(body)
    assert problem["code"] == "malformed_request"
    assert f"x-request-id: {problem['request_id']}".encode() in head
    oracle.expect_as_before()
    assert attacked.send("GET", "/health/live").status_code == 200


def test_a_request_within_a_body_is_no_request(oracle: Oracle, attacked: Attacked) -> None:
    """A proxy that goes by the other header would take the rest for another caller's request."""
    with Line(attacked) as line:
        line.ask(
            b"POST /jobs HTTP/1.1", b"Host: x", b"Content-Type: application/json", b"Content-Length: 4",
            b"Transfer-Encoding: chunked",
        )  # fmt: skip
        with suppress(OSError):
            line.say(b"0\r\n\r\nDELETE /jobs/" + attacked.names["JOB"].encode() + b" HTTP/1.1\r\nHost: x\r\n")
            line.say(line.key + b"\r\n")
        answer = line.answer()
    assert status_of(answer) == 400 and answer.count(b"HTTP/1.1 ") == 1
    oracle.expect_as_before()


@pytest.fixture(autouse=True)
def _others_are_not_blamed(oracle: Oracle) -> Iterator[None]:
    yield
    oracle.remember()


def test_an_endless_chunked_body_is_refused_and_cut_off(oracle: Oracle, attacked: Attacked) -> None:
    before = attacked.resident_bytes()
    with Line(attacked) as line:
        line.ask(
            b"POST /jobs HTTP/1.1",
            b"Host: x",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        with suppress(OSError):
            while sent < 400 * 2**20:
                line.say(chunk)
                sent += len(chunk)
        answer = line.answer()
    # The kernel takes as much on behalf of a server that has little of the processor.
    assert sent < 200 * 2**20
    # The kernel may drop the answer with the connection, for there was unread input.
    assert not answer or status_of(answer) == 413
    assert attacked.resident_bytes() - before < MEMORY_BYTES
    oracle.expect_as_before()


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"f" * 30 + b"\r\n",
        b"5\r\nab\r\n",
        b"1;" + b"x" * 100_000 + b"\r\n",
        b"2\r\n{}xx",
    ],
    ids=["no number", "below zero", "16³⁰", "a wrong length", "an endless extension", "no end of a chunk"],
)
def test_chunks_that_are_none_are_refused(oracle: Oracle, attacked: Attacked, chunks: bytes) -> None:
    with Line(attacked) as line:
        line.ask(
            b"POST /jobs HTTP/1.1",
            b"Host: x",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
        )
        with suppress(OSError):
            line.say(chunks + b"0\r\n\r\n")
        answer = line.answer()
    assert not answer or status_of(answer) == 400, answer
    oracle.expect_as_before()


@pytest.mark.parametrize("path", ["/jobs", "/nope", "/jobs/job_1/cancel", "/datasets", "/keys"])
def test_an_announced_100_gb_body_is_refused_unread(oracle: Oracle, attacked: Attacked, path: str) -> None:
    began = time.monotonic()
    with Line(attacked) as line:
        line.ask(
            b"POST %s HTTP/1.1" % path.encode(), b"Host: x", b"Content-Type: application/zip"
            if path == "/datasets" else b"Content-Type: application/json", b"Content-Length: %d" % 10**11,
        )  # fmt: skip
        answer = line.answer()
    assert status_of(answer) in {413, 404} and time.monotonic() - began < 5.0
    assert b"connection: close" in answer.lower()
    oracle.expect_as_before()


def test_who_is_refused_unread_sees_why(oracle: Oracle, attacked: Attacked) -> None:
    """A connection that is closed with bytes unread is reset, and the reset overtakes the answer."""
    for _ in range(10):
        with Line(attacked) as line:
            path = f"/jobs/{attacked.names['JOB']}/retry".encode()
            line.ask(
                b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Type: application/json",
                b"Content-Length: %d" % (4 * 2**20),
            )  # fmt: skip
            for _ in range(64):
                line.say(b" " * 2**16)
            assert status_of(line.answer()) == 413
    oracle.expect_as_before()


def test_a_body_that_is_cut_short_leaves_nothing(oracle: Oracle, attacked: Attacked) -> None:
    for path, kind in (
        ("/jobs", b"json"),
        ("/datasets", b"zip"),
        (f"/jobs/{attacked.names['JOB']}/retry", b"json"),
    ):
        with Line(attacked) as line:
            line.ask(
                b"POST %s HTTP/1.1" % path.encode(), b"Host: x", b"Content-Type: application/" + kind,
                b"Content-Length: 100000",
            )  # fmt: skip
            line.say(b'{"dataset"')
    # The server hears of it a moment later.
    until(lambda: _is_as_before(oracle), seconds=10, what="nothing to be left")


def _is_as_before(oracle: Oracle) -> bool:
    try:
        oracle.expect_as_before()
    except AssertionError:
        return False
    return True


def test_headers_without_end_are_refused(oracle: Oracle, attacked: Attacked) -> None:
    with Line(attacked) as line:
        with suppress(OSError):
            line.say(b"GET /jobs HTTP/1.1\r\n")
            for number in range(100_000):
                line.say(f"X-{number}: {'x' * 100}\r\n".encode())
        answer = line.answer()
    assert not answer or status_of(answer) == 400
    oracle.expect_as_before()


def test_hundreds_that_say_nothing_keep_nobody_out(oracle: Oracle, attacked: Attacked) -> None:
    lines = [Line(attacked) for _ in range(300)]
    try:
        for line in lines[::2]:
            line.say(b"GET /jobs HT")
        began = time.monotonic()
        assert attacked.send("GET", "/jobs").status_code == 200
        assert time.monotonic() - began < 5.0
    finally:
        for line in lines:
            line.__exit__()
    oracle.expect_as_before()


def test_a_pipeline_of_refusals_is_answered_in_order(oracle: Oracle, attacked: Attacked) -> None:
    with Line(attacked) as line:
        request = b"GET /jobs/x HTTP/1.1\r\nHost: x\r\n" + line.key
        line.say((request + b"\r\n") * 49 + request + b"Connection: close\r\n\r\n")
        assert line.answer().count(b"HTTP/1.1 404") == 50
    oracle.expect_as_before()


def test_a_name_that_is_another_address_goes_nowhere(oracle: Oracle, attacked: Attacked) -> None:
    """Absolute addresses are for proxies; this is none."""
    with Line(attacked) as line:
        line.ask(b"GET http://169.254.169.254/latest/meta-data HTTP/1.1", b"Host: x", b"Connection: close")
        assert status_of(line.answer()) in {400, 404}
    oracle.expect_as_before()


def test_a_body_in_single_bytes_is_answered(oracle: Oracle, attacked: Attacked) -> None:
    with Line(attacked) as line:
        body = b'{"dataset": {"path": "flowers"}, "model": {"weights": null}}'
        line.ask(
            b"POST /jobs?dry_run=true HTTP/1.1", b"Host: x", b"Connection: close",
            b"Content-Type: application/json", b"Content-Length: %d" % len(body),
        )  # fmt: skip
        for byte in body:
            line.say(bytes([byte]))
        assert status_of(line.answer()) == 200
    oracle.expect_as_before()
