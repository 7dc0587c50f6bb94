"""Downloads that are whole or not there: temporary name, size and hash checked, fsync, rename."""

import base64
import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import stamina

from perdure.errors import DownloadError, ServerUnreachableError, UnavailableError, UsageError
from perdure.transport import Transport

PREPARATION_SECONDS = 300.0
#: What a server says while it makes a file, or loads a model.
_IN_WORK = frozenset({"download_not_ready", "prediction_not_ready"})
OnBytes = Callable[[int, int | None], object]  #: bytes done, bytes in all where they are known


def download(
    transport: Transport,
    path: str,
    target: Path,
    *,
    params: dict[str, Any] | None = None,
    on_bytes: OnBytes = lambda done, total: None,
) -> Path:
    """Stream ``path`` into ``target`` and return it.

    ``target`` appears only when every byte is there and verified against what the answer's own headers
    promise: what is sent may be put together from several stored files, so no recorded hash describes it. A
    connection that breaks is tried again, from where it broke if the file is still the same. Raises
    DownloadError if the bytes are wrong, UnavailableError if the file is not ready for minutes, UsageError
    if there is no place for it.
    """
    partial = _Partial(target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial"), on_bytes)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for preparation in while_it_is_prepared():
            with preparation:
                for attempt in transport.attempts():
                    with attempt, transport.stream(path, params, partial.continuation()) as response:
                        partial.receive(response)
        partial.verify()
        partial.path.replace(target)
    except httpx2.TransportError as error:
        raise ServerUnreachableError(transport.url, str(error) or "the connection broke") from error
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):  # what could not be made cannot be removed either
            partial.path.unlink()
    return target


class _Partial:
    """What arrived so far, over all tries."""

    def __init__(self, path: Path, on_bytes: OnBytes) -> None:
        self.path, self._on_bytes = path, on_bytes
        self._begin(httpx2.Headers())

    def continuation(self) -> dict[str, str]:
        """Headers that ask for the rest, and for the whole if it is another file by now."""
        # Only with a digest of the whole is it certain that two pieces make one file.
        if not (self._received and self._etag and self._expected_hash):
            return {}
        return {"Range": f"bytes={self._received}-", "If-Range": self._etag}

    def receive(self, response: httpx2.Response) -> None:
        """Take in one answer to its end, or to where the connection breaks."""
        if not self._goes_on(response):
            self._begin(response.headers)
        with self.path.open("r+b" if self._received else "wb") as stream:
            stream.truncate(self._received)
            stream.seek(self._received)
            # As they come: pieces of a fixed size would be gathered first, and lost when the rest breaks.
            for chunk in response.iter_bytes():
                stream.write(chunk)
                self._digest.update(chunk)
                self._received += len(chunk)
                self._on_bytes(self._received, self._expected_size)
            stream.flush()
            os.fsync(stream.fileno())

    def verify(self) -> None:
        """Raises DownloadError."""
        if self._expected_size is not None and self._received != self._expected_size:
            raise DownloadError(
                f"{self._received} bytes came instead of {self._expected_size}; try the download again."
            )
        if self._expected_hash is not None and self._digest.hexdigest() != self._expected_hash:
            raise DownloadError(
                f"The SHA-256 of what came is {self._digest.hexdigest()}, but {self._expected_hash} was "
                "announced; try again, and if it stays so the stored file is damaged."
            )

    def _begin(self, headers: httpx2.Headers) -> None:
        announced = headers.get("content-length")
        self._expected_size = int(announced) if announced else None
        self._expected_hash = _announced_hash(headers)
        self._etag = headers.get("etag")
        self._digest = hashlib.sha256()
        self._received = 0

    def _goes_on(self, response: httpx2.Response) -> bool:
        if response.status_code != 206:
            return False
        begins = response.headers.get("content-range", "").startswith(f"bytes {self._received}-")
        if not begins or response.headers.get("etag") != self._etag:
            raise DownloadError("Another part of the file came than was asked for; try the download again.")
        return True


def while_it_is_prepared() -> Iterator[Any]:
    """A server that says so is at work on it: that deserves more patience than one that is away."""
    return iter(
        stamina.retry_context(
            on=lambda error: (
                isinstance(error, UnavailableError) and error.code in _IN_WORK and (error.retry_after or 1.0)
            ),
            attempts=None,
            timeout=PREPARATION_SECONDS,
        )
    )


def _announced_hash(headers: httpx2.Headers) -> str | None:
    """The SHA-256 from ``Repr-Digest: sha-256=:…:`` (RFC 9530), in hex."""
    for part in headers.get("repr-digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256":
            return base64.b64decode(value.strip(":")).hex()
    return None
