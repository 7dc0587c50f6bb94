"""Downloads that are whole or not there: temporary name, size and hash checked, fsync, rename."""

import base64
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from perdure.errors import DownloadError, ServerUnreachableError
from perdure.transport import Transport

CHUNK = 1 << 20


def download(
    transport: Transport,
    path: str,
    target: Path,
    *,
    params: dict[str, Any] | None = None,
    size_bytes: int | None = None,
    sha256: str | None = None,
    on_bytes: Callable[[int, int | None], object] = lambda done, total: None,
) -> Path:
    """Stream ``path`` into ``target`` and return it.

    ``target`` appears only when every byte is there and verified: against ``size_bytes`` and ``sha256`` where
    the caller knows them, otherwise against what the response's own headers promise. A connection that
    breaks is tried again from the start. Raises DownloadError if the bytes are wrong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for attempt in transport.attempts():
            with attempt, transport.stream(path, params) as response:
                _receive(response, partial, size_bytes, sha256, on_bytes)
        partial.replace(target)
    except httpx2.TransportError as error:
        raise ServerUnreachableError(transport.url, str(error) or "the connection broke") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _receive(
    response: httpx2.Response,
    partial: Path,
    size_bytes: int | None,
    sha256: str | None,
    on_bytes: Callable[[int, int | None], object],
) -> None:
    announced = response.headers.get("content-length")
    expected_size = size_bytes if size_bytes is not None else (int(announced) if announced else None)
    expected_hash = sha256 or _announced_hash(response.headers)
    digest = hashlib.sha256()
    received = 0
    with partial.open("wb") as stream:
        for chunk in response.iter_bytes(CHUNK):
            stream.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            on_bytes(received, expected_size)
        stream.flush()
        os.fsync(stream.fileno())
    if expected_size is not None and received != expected_size:
        raise DownloadError(f"{received} bytes came instead of {expected_size}; try the download again.")
    if expected_hash is not None and digest.hexdigest() != expected_hash:
        raise DownloadError(
            f"The SHA-256 of what came is {digest.hexdigest()}, but {expected_hash} was recorded; "
            "try again, and if it stays so the stored file is damaged."
        )


def _announced_hash(headers: httpx2.Headers) -> str | None:
    """The SHA-256 from ``Repr-Digest: sha-256=:…:`` (RFC 9530), in hex."""
    for part in headers.get("repr-digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256":
            return base64.b64decode(value.strip(":")).hex()
    return None
