"""What can go wrong between a client and its server, as types to catch.

Nothing heavy is imported here, so that the command line can name these before it needs a client.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class PerdureClientError(Exception):
    """The root of everything that this package raises on purpose."""


class ServerUnreachableError(PerdureClientError):
    """No answer came from the server."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"No Perdure server answers at {url} ({reason}).")


class UsageError(PerdureClientError):
    """What was asked for cannot be sent, or saved here; the message says what to change."""


class ForeignAnswerError(PerdureClientError):
    """What answered does not speak like a Perdure server."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not what a Perdure server of this version says. Does another service answer there, "
            "or is the server much newer or older than this client?"
        )


class DownloadError(PerdureClientError):
    """The bytes that arrived are not the bytes that the server recorded."""


class WaitTimeoutError(PerdureClientError):
    """The job did not end within the time given; it goes on."""


class LocalStackError(PerdureClientError):
    """The local service cannot run as asked; the message says what to do."""


class PerdureAPIError(PerdureClientError):
    """The server refused a request, in the words of its problem+json answer.

    ``code`` is stable and made for programs; ``detail`` is made for people. ``errors`` holds one entry
    for each wrong field.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.request_id = request_id
        self.retry_after = retry_after
        super().__init__(f"{status} {code}: {detail or title}")


class InvalidRequestError(PerdureAPIError):
    """400, 413, 415 or 422: the request itself has to change."""


class NotAllowedError(PerdureAPIError):
    """401 or 403: the API key is missing, unknown, or may not do this."""


class NotFoundError(PerdureAPIError):
    """404: there is nothing with that id."""


class ConflictError(PerdureAPIError):
    """409: the job's state does not allow this."""


class GoneError(PerdureAPIError):
    """410: the file was pruned or quarantined."""


class RateLimitedError(PerdureAPIError):
    """429: too many requests, even after waiting."""


class UnavailableError(PerdureAPIError):
    """502, 503 or 504: the server or its database is away, even after waiting."""


BY_STATUS: dict[int, type[PerdureAPIError]] = {
    400: InvalidRequestError,
    401: NotAllowedError,
    403: NotAllowedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
