"""An image as the body of a request: raw, or as the one file of a form."""

import hashlib
from collections.abc import AsyncIterator
from email.message import Message
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from api.body import read_bytes
from api.dependencies import ServicesDep
from api.problems import Refused

MAX_IMAGE_BYTES = 16 * 2**20
#: What a browser or a library may call the formats that the trainer decodes; the bytes decide.
IMAGE_TYPES = (
    "image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/gif",
    "application/octet-stream",
)  # fmt: skip
_ALIASES = {"image/jpg", "image/pjpeg", "image/x-png", "image/x-ms-bmp"}
FORM = "multipart/form-data"
#: Nobody's form has more.
MAX_PARTS = 16

_BINARY = {"type": "string", "format": "binary"}
#: For a route's ``openapi_extra``.
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"An image of at most {MAX_IMAGE_BYTES // 2**20} MiB, raw or as the file of a form.",
        "content": {
            **{kind: {"schema": _BINARY} for kind in IMAGE_TYPES},
            FORM: {"schema": {"type": "object", "required": ["image"], "properties": {"image": _BINARY}}},
        },
    }
}


async def _image(request: Request, services: ServicesDep) -> AsyncIterator[bytes]:
    """Raises Refused (400, 408, 413, 415, 422), PredictionNotReady."""
    kind, boundary = _content_type(request.headers.get("content-type", ""))
    if kind not in {*IMAGE_TYPES, *_ALIASES, FORM}:
        raise _not_an_image(kind)
    async with services.predictor.turn():
        content = await read_bytes(request, MAX_IMAGE_BYTES)
        # For the fingerprint of idempotent requests; in a thread, since a body may be large.
        image, request.state.json = await run_in_threadpool(_extract, content, kind, boundary)
        yield image


Image = Annotated[bytes, Depends(_image)]


def _extract(content: bytes, kind: str, boundary: str) -> tuple[bytes, dict[str, str]]:
    image = file_of_form(content, boundary) if kind == FORM else content
    if not image:
        raise Refused(422, "image_invalid", "There is no image in the body; send one.")
    return image, {"image_sha256": hashlib.sha256(image).hexdigest()}


def file_of_form(content: bytes, boundary: str) -> bytes:
    """The first file of a ``multipart/form-data`` body. Raises Refused."""
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise Refused(400, "invalid_form", "The form has no boundary in its Content-Type.")
    # Every delimiter stands at the beginning of a line, the first one maybe at that of the body.
    _, *parts = (b"\r\n" + content).split(b"\r\n--" + boundary.encode(), MAX_PARTS)
    if not parts or not parts[-1].startswith(b"--"):
        raise Refused(400, "invalid_form", "The form has no end: it was cut short, or is none.")
    for part in parts[:-1]:
        head, separator, file = part.partition(b"\r\n\r\n")
        headers = _headers(head)
        if not separator or headers.get_param("filename", header="content-disposition") is None:
            continue
        kind = headers.get_content_type() if "content-type" in headers else IMAGE_TYPES[0]
        if kind not in {*IMAGE_TYPES, *_ALIASES}:
            raise _not_an_image(kind)
        return file
    raise Refused(422, "image_invalid", "The form has no file; send the image as one.")


def _headers(head: bytes) -> Message:
    headers = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip()] = value.strip()
    return headers


def _content_type(header: str) -> tuple[str, str]:
    """The type in small letters, and a form's boundary."""
    message = Message()
    message["content-type"] = header or "none/none"
    return message.get_content_type(), str(message.get_param("boundary", ""))


def _not_an_image(kind: str) -> Refused:
    shown = "".join(c for c in kind if c.isprintable())[:60]
    return Refused(
        415,
        "unsupported_media_type",
        f"{shown!r} is no image that can be looked at; send Content-Type: {', '.join(IMAGE_TYPES[:6])}, "
        "or a form with one file.",
    )
