"""A folder of images as a zip archive, made while it is sent: neither memory nor disk holds it whole.

The same files give the same bytes, so that an upload that has to be sent again is the same request.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from perdure.errors import LocalStackError

OnBytes = Callable[[int, int | None], object]  #: bytes of files done, and in all
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".csv"})
_PIECE = 2**18
#: The first that the format can say: when a file was changed is no part of a dataset.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def files_below(folder: Path) -> list[Path]:
    """Images and CSVs, in order; hidden files and folders are left out. Raises LocalStackError for none."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not found:
        raise LocalStackError(f"There are no images below {folder}.")
    return found


def zipped(folder: Path, on_bytes: OnBytes) -> Iterator[bytes]:
    """The archive, piece by piece. Images are stored as they are: they would not get smaller."""
    files = files_below(folder)
    total, done = sum(file.stat().st_size for file in files), 0
    sink = _Pieces()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _LONG_AGO)
            entry.external_attr = 0o100644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(_PIECE):
                    target.write(piece)
                    done += len(piece)
                    on_bytes(done, total)
                    yield from sink.take()
            yield from sink.take()
    yield from sink.take()


def read_file(path: Path, on_bytes: OnBytes) -> Iterator[bytes]:
    """The bytes of an archive that is there already."""
    total, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            done += len(piece)
            on_bytes(done, total)
            yield piece


class _Pieces:
    """A sink that cannot be sought, as zipfile writes to one, and gives away what it got."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._waiting.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Everything is taken away at once."""

    def take(self) -> Iterator[bytes]:
        waiting, self._waiting = self._waiting, []
        if waiting:
            yield b"".join(waiting)
