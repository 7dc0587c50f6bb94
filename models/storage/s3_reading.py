"""An object on S3 as a stream that can be sought: one request for as long as it is read front to back."""

import contextlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.errors import StorageFailed
from models.storage.protocol import CHUNK
from models.storage.s3_client import TRIES, worded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 2**20


class ObjectReader(io.RawIOBase):
    """``get`` is GetObject of one object; it takes a Range and an If-Match."""

    def __init__(self, name: str, get: Callable[..., Any]) -> None:
        """Raises FileNotFoundError, StorageFailed."""
        self._name, self._get = name, get
        with worded(f"Reading {name}"):
            answer = get()
        self._size: int = answer["ContentLength"]
        self._etag: str = answer["ETag"]
        self._body: Any = answer["Body"]
        self._body_at = 0  #: the next byte that the open answer will give
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"there is nothing before the first byte: {start + offset}")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        chunks = []
        while chunk := self._next(CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _next(self, num_bytes: int) -> bytes:
        """Some bytes, at most so many; goes on where a connection broke. Empty at the end."""
        wanted = min(num_bytes, self._size - self._at)
        if wanted <= 0:
            return b""
        for tries_left in reversed(range(TRIES)):
            body = self._body_from_here()
            try:
                with worded(f"Reading {self._name}"):
                    data: bytes = body.read(wanted)
            except StorageFailed:
                self._hang_up()
                if not tries_left:
                    raise
                continue
            if data:
                break
            self._hang_up()
        else:
            raise StorageFailed(f"Reading {self._name} failed: it ends at byte {self._at}.")
        self._at += len(data)
        self._body_at = self._at
        return data

    def _body_from_here(self) -> Any:
        if self._body is None or self._body_at != self._at:
            self._hang_up()
            with worded(f"Reading {self._name}"):
                answer = self._get(Range=f"bytes={self._at}-", IfMatch=self._etag)
            self._body = answer["Body"]
            self._body_at = self._at
        return self._body

    def _hang_up(self) -> None:
        body, self._body = getattr(self, "_body", None), None
        if body is not None:
            with contextlib.suppress(Exception):
                body.close()
