"""HTTP to a Perdure server: retries that are safe, and failures as types.

Every POST carries an Idempotency-Key, so a request whose answer was lost can be sent again: the server
replays the first answer instead of doing the work twice.
"""

import json
import random
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import stamina

from perdure.errors import (
    BY_STATUS,
    ForeignAnswerError,
    PerdureAPIError,
    ServerUnreachableError,
    UsageError,
)

#: A server syncs and looks through what may be gigabytes before it answers.
_UPLOAD_TIMEOUT = httpx2.Timeout(60.0, read=600.0)
#: Statuses that say "later", not "no".
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


class Transport:
    """One connection pool to one server."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        retry_seconds: float,
        timeout_seconds: float,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        headers = {"Accept": "application/json", "User-Agent": "perdure-client"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise UsageError("An API key (PERDURE_API_KEY) holds printable ASCII characters only.")
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = httpx2.Client(
                base_url=self.url, headers=headers, timeout=timeout_seconds, transport=transport
            )
        except httpx2.InvalidURL as error:
            raise ServerUnreachableError(url, f"not a URL: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON behind ``path``."""
        return json_of(self.request("GET", path, params=params))

    def look(self, path: str) -> httpx2.Response:
        """Whatever ``path`` answers, at once, be it an error. Raises ServerUnreachableError."""
        try:
            return self._http.get(path)
        except httpx2.TransportError as error:
            raise ServerUnreachableError(self.url, reason_of(error)) from error

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Send ``body`` as JSON, once in effect however often it takes, and return the JSON answer."""
        key = idempotency_key or uuid.uuid4().hex
        if not _VISIBLE.fullmatch(key):
            raise UsageError("An idempotency key is 1 to 255 visible ASCII characters.")
        headers = {"Idempotency-Key": key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else _to_json(body)
        return json_of(self.request("POST", path, params=params, content=content, headers=headers))

    def upload(
        self,
        path: str,
        pieces: Callable[[], Iterable[bytes]],
        *,
        content_type: str,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a body that ``pieces`` makes anew for each try, and return the JSON answer."""
        headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": content_type}
        try:
            for attempt in self.attempts():
                with attempt:
                    response = self._http.post(
                        path,
                        params=_clean(params),
                        content=pieces(),
                        headers=headers,
                        timeout=_UPLOAD_TIMEOUT,
                    )
                    raise_for_problem(response)
        except httpx2.TransportError as error:
            raise ServerUnreachableError(self.url, reason_of(error)) from error
        return response.json()

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request until it is answered for good or ``retry_seconds`` are over.

        Raises PerdureAPIError for an answer that is an error, ServerUnreachableError for none, UsageError
        for what no request can hold.
        """
        try:
            for attempt in self.attempts():
                with attempt:
                    response = self._http.request(method, path, **_without_nulls(options))
                    raise_for_problem(response)
        except httpx2.TransportError as error:
            raise ServerUnreachableError(self.url, reason_of(error)) from error
        except (httpx2.InvalidURL, UnicodeEncodeError) as error:
            raise UsageError(f"This cannot be asked for: {error}.") from error
        return response

    def attempts(self) -> Iterator[Any]:
        """stamina's attempts, with jitter and within ``retry_seconds``."""
        return iter(
            stamina.retry_context(
                on=_retry_after,
                attempts=None if self.retry_seconds > 0 else 1,
                timeout=self.retry_seconds or None,
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.2,
            )
        )

    @contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        silence_seconds: float | None = None,
    ) -> Iterator[httpx2.Response]:
        """An open response whose body is read piece by piece; a single try.

        ``silence_seconds``: how long the server may say nothing, where that is more than for an answer.
        """
        accepting = {"Accept": "*/*", **(headers or {})}
        timeout = httpx2.Timeout(self._timeout_seconds, read=silence_seconds or self._timeout_seconds)
        with self._http.stream(
            "GET", path, params=_clean(params), headers=accepting, timeout=timeout
        ) as response:
            if response.is_error:
                response.read()
            raise_for_problem(response)
            yield response


def json_of(response: httpx2.Response) -> Any:
    """The JSON of an answer. Raises ForeignAnswerError."""
    try:
        return response.json()
    except ValueError as error:  # broken JSON, or bytes that are no text
        raise ForeignAnswerError(f"The answer of {response.request.url}") from error


def _to_json(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} holds characters that are not Unicode text.") from error
    except ValueError as error:
        raise UsageError("Numbers must be finite: JSON has neither NaN nor infinities.") from error
    except (TypeError, RecursionError) as error:
        raise UsageError(f"This is not JSON: {error}.") from error


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise the PerdureAPIError that an error answer describes."""
    if response.is_success:
        return
    try:
        problem = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        problem = None
    if not isinstance(problem, dict):  # not ours: a proxy's page, or another service on this port
        problem = {"detail": f"{response.request.url} answered {response.status_code} without a reason"}
    error_type = BY_STATUS.get(response.status_code, PerdureAPIError)
    errors = problem.get("errors")
    raise error_type(
        status=response.status_code,
        code=str(problem.get("code") or "unknown"),
        title=str(problem.get("title") or response.reason_phrase),
        detail=str(problem.get("detail") or ""),
        errors=[error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else [],
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def _retry_after(error: Exception) -> bool | float:
    """stamina's hook: no, yes by backoff, or yes after so many seconds."""
    if isinstance(error, PerdureAPIError):
        if error.status not in RETRYABLE_STATUSES and error.code != "idempotency_in_flight":
            return False
        if error.retry_after is None:
            return True
        # Jitter, so that clients that were turned away together do not come back together.
        return error.retry_after + random.uniform(0.0, 0.25)
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError
    )


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:  # the form with a date; the backoff will do
        return None


def reason_of(error: httpx2.TransportError) -> str:
    """In few words, for a person."""
    if isinstance(error, httpx2.ConnectError):
        return "connection refused" if "refused" in str(error) else str(error) or "cannot connect"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _clean(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if params is None else {name: value for name, value in params.items() if value is not None}


def _without_nulls(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "params": _clean(options.get("params"))}
