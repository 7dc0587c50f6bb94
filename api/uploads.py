"""Taking in the body of ``POST /datasets``: a few lines of JSON, or an archive, never in memory whole.

An archive is the body itself, or the file of a form. As it arrives it counts towards its tenant's quota.
"""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Annotated

from fastapi import Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from api.body import body_of
from api.dependencies import CallerDep, ServicesDep
from api.problems import Refused
from api.registration import DatasetName, Registration
from api.upload_form import FORM, MAX_OTHER_BYTES, ZIP_TYPES, UploadForm
from models.errors import StorageFailed, UploadTooLarge
from models.identifiers import new_id
from models.uploads import incoming_file

#: Written at once: neither small pieces nor much memory.
PIECE_BYTES = 2**20
IDLE_SECONDS = 30.0
#: After the first minute a body must have come at least so fast, or its sender only holds a file open.
PATIENCE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 10_000


@dataclass(frozen=True)
class Upload:
    """An archive, received whole and synced to the disk, that is nobody's yet."""

    dataset_id: str
    name: str | None
    path: Path
    size_bytes: int


async def _submission(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    name: Annotated[
        DatasetName | None, Query(description="Of an archive as the body; all else has it in its body.")
    ] = None,
) -> AsyncIterator[Registration | Upload]:
    """What was sent.

    Raises Refused: 400, 408, 413, 415, 422; UploadTooLarge, QuotaExceeded, StorageFailed.
    """
    header = Message()
    header["content-type"] = request.headers.get("content-type", "text/plain")
    kind = header.get_content_type()
    if kind == "application/json":
        yield await body_of(Registration)(request)
        return
    if kind not in {*ZIP_TYPES, FORM}:
        raise Refused(
            415,
            "unsupported_media_type",
            "Send a zip archive, as the body (Content-Type: application/zip) or as the part `file` of a form "
            "(multipart/form-data), or JSON that names a folder of the data root or one of torchvision's "
            "datasets.",
        )
    form = UploadForm(str(header.get_param("boundary", ""))) if kind == FORM else None
    most = services.settings.max_upload_bytes
    announced = _announced(request, most + (MAX_OTHER_BYTES if form else 0), most)
    await run_in_threadpool(services.store_quota.expect_room, caller.tenant_id, announced)
    dataset_id = new_id("ds")
    try:
        path = incoming_file(services.settings.uploads_folder, dataset_id)
        try:
            _expect_space(path.parent, announced)
            with services.store_quota.upload(caller.tenant_id) as count:
                size_bytes, digest = await _receive(request, path, form, most, count)
                name = form.end() if form else name
                request.state.json = {"sha256": digest, **({"name": name} if form else {})}
                yield Upload(dataset_id, name, path, size_bytes)
        finally:
            path.unlink(missing_ok=True)  # unless it has become a dataset's own
    except OSError as error:
        raise StorageFailed(
            f"The upload cannot be stored: {error.strerror or error}. Free some space for the uploads, or "
            "let PERDURE_UPLOADS_ROOT name a folder that the API can write to."
        ) from error


SubmissionDep = Annotated[Registration | Upload, Depends(_submission)]


def _announced(request: Request, most: int, most_of_archive: int) -> int:
    """Bytes of the body by its own words, 0 where it says nothing. Raises UploadTooLarge."""
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return 0
    if len(announced) > 18 or int(announced) > most:
        raise _too_large(most_of_archive)
    return int(announced)


def _expect_space(folder: Path, num_bytes: int) -> None:
    """Raises OSError at once for what the disk would refuse in an hour."""
    if num_bytes > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def _receive(
    request: Request, path: Path, form: UploadForm | None, most: int, count: Callable[[int], None]
) -> tuple[int, str]:
    """Bytes and SHA-256 of the archive, which is at ``path`` then; ``count`` is told of them as they come."""
    digest, size = hashlib.sha256(), 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    with path.open("xb") as sink:
        waiting = bytearray()
        try:
            async with asyncio.timeout(IDLE_SECONDS) as limit:
                async for chunk in request.stream():
                    piece = form.feed(chunk) if form else chunk
                    size += len(piece)
                    if size > most:
                        raise _too_large(most)
                    count(len(piece))
                    waiting += piece
                    if len(waiting) >= PIECE_BYTES:
                        await run_in_threadpool(_put, sink, bytes(waiting), digest)
                        waiting.clear()
                    slowest = began + PATIENCE_SECONDS + size / LEAST_BYTES_PER_SECOND
                    limit.reschedule(min(loop.time() + IDLE_SECONDS, slowest))
        except TimeoutError:
            raise Refused(408, "request_timeout", "The body took too long to arrive.") from None
        await run_in_threadpool(_put, sink, bytes(waiting), digest, durably=True)
    return size, digest.hexdigest()


def _put(sink: IO[bytes], piece: bytes, digest: "hashlib._Hash", *, durably: bool = False) -> None:
    sink.write(piece)
    digest.update(piece)
    if durably:
        sink.flush()
        os.fsync(sink.fileno())


def _too_large(most: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The archive has more than {most} bytes; send less, put the folder on the data root and register "
        "its path, or raise PERDURE_MAX_UPLOAD_BYTES."
    )
