"""What every checkpoint store promises, and what all of them share."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import xxhash

CHUNK = 4 * 2**20
#: Fits into a core's own cache.
PIECE = 2**20
#: How the key of an unfinished write ends; ``delete`` takes it like any other.
TEMPORARY = ".partial"

OnBytes = Callable[[int], object]


def nobody(size: int) -> None:
    """Listens to the progress of a write that nobody watches."""


@dataclass(frozen=True)
class StoredObject:
    """What a finished write left behind."""

    key: str
    size_bytes: int
    sha256: str


class HashingWriter:
    """A binary sink that hashes and counts what passes through it; each store has its own kind."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._fast_digest = xxhash.xxh3_128()
        self.size_bytes = 0
        self._failure: Exception | None = None

    def fill(self, produce: Callable[["HashingWriter"], object]) -> None:
        """Let ``produce`` write all of it. What the store refused is raised as the store said it."""
        try:
            produce(self)
        finally:
            # torch.save turns an error of its sink into a RuntimeError about positions in the archive.
            if self._failure is not None:
                raise self._failure

    def write(self, data: bytes) -> int:
        if self._failure is not None:  # torch.save goes on to write the end of its archive
            raise self._failure
        whole = memoryview(data).cast("B")
        # Piece by piece, so that every one is still in the processor's cache for the next reader of it.
        for start in range(0, len(whole), PIECE):
            piece = whole[start : start + PIECE]
            self._digest.update(piece)
            self._fast_digest.update(piece)
            self.size_bytes += len(piece)
            try:
                self._take(piece)
            except Exception as error:
                self._failure = error
                raise
        return len(whole)

    def flush(self) -> None:
        """Durability comes at the end of the write, once."""

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def xxh3(self) -> bytes:
        """Tells accidents, not forgery, at a fifteenth of the cost: for what this process wrote itself."""
        return self._fast_digest.digest()

    def _take(self, view: memoryview) -> None:
        """Keep these bytes; the view is not valid afterwards."""
        raise NotImplementedError


class Storage(Protocol):
    """One small protocol for every kind of store. Keys are relative, with forward slashes.

    Every method raises StorageFailed when the store cannot be reached or refuses.
    """

    def write(
        self, key: str, produce: Callable[[HashingWriter], object], on_bytes: OnBytes = ...
    ) -> StoredObject:
        """Make ``key`` durable from what ``produce`` writes, and verify it."""

    def open(self, key: str) -> IO[bytes]:
        """Read an object; the stream can be sought. Raises FileNotFoundError."""

    def delete(self, key: str) -> None:
        """Remove an object or a leftover; it is no error if it is gone already."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Every object below ``prefix``, leftovers of unfinished writes included.

        The key of a leftover is the object's key, something unique, and ``.partial``.
        """

    def free_bytes(self) -> int | None:
        """Room for more; None where nobody knows."""

    def seems_away(self, key: str) -> bool:
        """Whether an object that was there is missing since all of the store is: not mounted, say."""

    def probe(self) -> None:
        """Do once, with a few bytes, what each checkpoint needs."""


def sha256_of(stream: IO[bytes], on_bytes: OnBytes = nobody) -> str:
    """The hex digest of everything that ``stream`` still holds."""
    digest = hashlib.sha256()
    size = 0
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        on_bytes(size)
    return digest.hexdigest()
