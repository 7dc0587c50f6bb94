"""Zip archives as users send them, and as nobody should."""

import io
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping

from PIL import Image

CLASSES = ("daisy", "rose")


def picture(number: int = 0, *, size: int = 8, kind: str = "PNG") -> bytes:
    """A small image, another one for each number."""
    sink = io.BytesIO()
    Image.new("RGB", (size, size + 1), (number % 256, 80, 160)).save(sink, kind)
    return sink.getvalue()


def flowers(per_class: int = 3, *, below: str = "") -> dict[str, bytes]:
    """``<class>/<number>.png`` for two classes."""
    return {
        f"{below}{name}/{number}.png": picture(10 * place + number)
        for place, name in enumerate(CLASSES)
        for number in range(per_class)
    }


def zipped(
    files: Mapping[str, bytes], folders: Iterable[str] = (), *, compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for folder in folders:
            archive.writestr(f"{folder}/", b"")
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name) if compression == zipfile.ZIP_STORED else name, content)
    return sink.getvalue()


def with_link(files: Mapping[str, bytes], name: str, target: str, kind: int = stat.S_IFLNK) -> bytes:
    """One entry more, which says that it is a symbolic link (or something else that is no file)."""
    sink = io.BytesIO(zipped(files))
    with zipfile.ZipFile(sink, "a") as archive:
        entry = zipfile.ZipInfo(name)
        entry.create_system = 3
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, target)
    return sink.getvalue()


def renamed(archive: bytes, before: str, after: str) -> bytes:
    """A name of equal length in the place of another, wherever it stands: zipfile writes no such names."""
    assert len(before) == len(after.encode("latin-1"))
    return archive.replace(before.encode(), after.encode("latin-1"))


def overlapping(archive: bytes) -> bytes:
    """The directory's second entry points at the bytes of the first, as bombs without nesting do."""
    first = archive.index(b"PK\1\2")
    second = archive.index(b"PK\1\2", first + 4)
    return archive[: second + 42] + archive[first + 42 : first + 46] + archive[second + 46 :]


def of_many_entries(number: int) -> bytes:
    """A directory of so many entries, and an end that says there is one; small for what it asks for."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * number
    return directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 0, 0)


def with_field(archive: bytes, name: str, offset: int, layout: str, value: int) -> bytes:
    """A field of an entry in the directory, with another value: at ``offset`` of its record."""
    at = archive.index(b"PK\1\2")
    while archive[at + 46 : at + 46 + len(name)] != name.encode():
        at = archive.index(b"PK\1\2", at + 4)
    field = struct.pack(layout, value)
    return archive[: at + offset] + field + archive[at + offset + len(field) :]


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">L4s2L5B", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)
