"""Files as downloads: whole or one range, tagged with the hash of the whole."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import IO

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.problems import Refused
from models.errors import ContentGone

CHUNK = 2**20
#: One range; a header with several (which may be ten thousand) is ignored, as RFC 9110 allows.
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def file_response(
    request: Request,
    open_file: Callable[[], IO[bytes]],
    *,
    size_bytes: int,
    sha256: str,
    filename: str,
    media_type: str = "application/octet-stream",
) -> Response:
    """200, 206 or 304; the file is opened only to be sent. Raises ContentGone, Refused (416)."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") in {etag, "*"}:
        return Response(status_code=304, headers=headers)
    span = _range(request, etag, size_bytes)
    first, last = span or (0, size_bytes - 1)
    # Opened before the answer begins: retention may unlink the name meanwhile, the bytes stay ours.
    try:
        stream = open_file()
    except FileNotFoundError:
        raise ContentGone("The file was let go a moment ago; look at the list of checkpoints.") from None
    headers |= {
        "Content-Length": str(last - first + 1),
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
    }
    if span:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    return StreamingResponse(
        _bytes(stream, first, last - first + 1),
        206 if span else 200,
        headers=headers,
        media_type=media_type,
    )


def _bytes(stream: IO[bytes], start: int, remaining: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        # A file shorter than recorded ends early: the client then sees fewer bytes than announced.
        while remaining and (chunk := stream.read(min(CHUNK, remaining))):
            remaining -= len(chunk)
            yield chunk


def _range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First and last byte; None for the whole. Raises Refused (416)."""
    if request.headers.get("if-range", etag) != etag:
        return None
    asked = _ONE_RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or not (asked[1] or asked[2]):
        return None
    if not asked[1]:
        first, last = max(0, size - int(asked[2])), size - 1
    else:
        first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
        if asked[2] and int(asked[2]) < first:
            return None
    if first > last:
        raise Refused(
            416,
            "range_not_satisfiable",
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last
