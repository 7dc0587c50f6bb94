"""What has to hold after each rejection, whatever was sent.

Answered within a second, with the status and the code that are documented; a problem in full, without a
stack trace, a path or a secret; one structured line in the log; no row, file or message left behind; memory
about where it was.
"""

import time
from typing import Any

import httpx2 as httpx

from tests.integration.hostile.attacked import Attacked
from tests.integration.hostile.case import Case
from tests.servers.waiting import until

SECONDS = 1.0
BUSY_SECONDS = 10.0
#: A machine may be busy with something else; what is slow by itself is slow every time.
TRIES = 3
MEMORY_BYTES = 48 * 2**20
#: Much is named where much is wrong, but nothing of what was sent comes back at length.
ANSWER_BYTES = 30_000
PROBLEM = {"type", "title", "status", "detail", "code", "request_id", "errors"}


class Oracle:
    """Remembers the service as it was before anybody attacked it."""

    def __init__(self, attacked: Attacked) -> None:
        self.attacked = attacked
        self._resident = attacked.resident_bytes()
        self.remember()

    def remember(self) -> None:
        """What is there now is there by right."""
        self._version = self.attacked.database_version()
        self._rows, self.files = self.attacked.rows(), self.attacked.files()
        self._messages = self.attacked.messages()

    def refuses(self, case: Case) -> None:
        """Send it, and hold the answer and all that is left against the above."""
        try:
            self._refuses(case)
        except AssertionError:
            self.remember()  # or all that come after it would be blamed, too
            raise

    def _refuses(self, case: Case) -> None:
        content = case.body()
        for _ in range(TRIES):
            since, spent = self.attacked.log_path.stat().st_size, self.attacked.cpu_seconds()
            began = time.perf_counter()
            answer = self.attacked.send_case(case, content)
            seconds, spent = time.perf_counter() - began, self.attacked.cpu_seconds() - spent
            body = self.expect_problem(answer, case.status, case.code, method=case.method)
            self.expect_told_once(since, answer, case.method)
            self.expect_as_before()
            if seconds < SECONDS:
                break
        else:
            # Where others have the processors, what it took of them has to do.
            assert seconds < BUSY_SECONDS and spent < SECONDS, (
                f"answered after {seconds:.2f} s, {spent:.2f} busy"
            )
        if case.at:
            named = [error["field"] for error in body["errors"]]
            assert any(_is_about(field, case.at) for field in named), named

    def expect_problem(
        self, answer: httpx.Response, status: int, code: str, *, method: str = "GET"
    ) -> dict[str, Any]:
        assert answer.status_code == status, answer.text[:2000]
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = f"{answer.headers}\n{answer.text}"
        assert len(text) < ANSWER_BYTES
        for word in ("Traceback", "site-packages", 'File "', "sqlalchemy", "pydantic", "sqlite3"):
            assert word not in text, word
        for secret in self.attacked.secrets():
            assert secret not in text
        if method == "HEAD":
            return {"errors": []}
        body: dict[str, Any] = answer.json()
        assert set(body) == PROBLEM
        assert (body["status"], body["code"]) == (status, code), body
        assert body["type"] == f"urn:perdure:problem:{code}"
        assert body["request_id"] == answer.headers["x-request-id"]
        assert body["detail"].isprintable(), "it is shown in terminals"
        for error in body["errors"]:
            assert set(error) == {"field", "message", "code"}
        return body

    def expect_told_once(self, since: int, answer: httpx.Response, method: str) -> None:
        """One line of the request, in JSON; in whatever else is told no stack trace and no secret."""
        request_id = answer.headers["x-request-id"]

        def of_the_request() -> list[dict[str, Any]]:
            lines = self.attacked.log_lines(since)
            return [line for line in lines if line.get("request_id") == request_id]

        until(of_the_request, seconds=10, what="the request's line in the log")
        [line] = of_the_request()
        assert (line["event"], line["method"], line["status"]) == ("request", method, answer.status_code)
        with self.attacked.log_path.open("rb") as log:
            log.seek(since)
            told = log.read()
        assert b"Traceback" not in told and b"exception" not in told, told
        for secret in self.attacked.secrets():
            assert secret.encode() not in told

    def expect_as_before(self) -> None:
        version = self.attacked.database_version()
        if version != self._version:  # written to, if only to take it back
            assert self.attacked.rows() == self._rows
            self._version = version
        assert self.attacked.files() == self.files
        assert self.attacked.messages() == self._messages
        grown = self.attacked.resident_bytes() - self._resident
        assert grown < MEMORY_BYTES, f"{grown / 2**20:.0f} MiB more than at the beginning"


def _is_about(named: str, at: str) -> bool:
    """The field itself, a part of it, or the object that it is a part of."""
    named, at = named.lower(), at.lower()
    return named == at or named.startswith(f"{at}.") or (named != "" and at.startswith(named))
