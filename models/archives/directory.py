"""How many entries an archive has, counted before anything makes an object of each."""

import struct
from typing import IO

from models.errors import ArchiveInvalid

MAX_ENTRIES = 200_000
MAX_DIRECTORY_BYTES = 32 * 2**20

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY_BYTES = 46
#: An end record and the longest comment that may follow it.
_TAIL_BYTES = _END.size + 2**16


def expect_few_entries(stream: IO[bytes]) -> int:
    """Where the directory begins. Raises ArchiveInvalid for no archive, and for one of too many entries.

    The directory is walked: a count of its own, which it also has, may say anything.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _TAIL_BYTES))
    tail = stream.read(_TAIL_BYTES)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveInvalid("The body is not a zip archive, or not all of it.")
    end = size - len(tail) + at
    directory_bytes: int = _END.unpack_from(tail, at)[5]
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        end = size - len(tail) + at - _LOCATOR.size - _END_64.size
        stream.seek(max(0, end))
        record = stream.read(_END_64.size)
        if len(record) < _END_64.size or not record.startswith(b"PK\6\6"):
            raise ArchiveInvalid("The archive's end is damaged.")
        directory_bytes = _END_64.unpack(record)[8]
    start = end - directory_bytes
    if start < 0:
        raise ArchiveInvalid("The archive's directory is larger than the archive.")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise _too_many()
    stream.seek(start)
    if _count(stream.read(directory_bytes)) > MAX_ENTRIES:
        raise _too_many()
    return start


def _count(directory: bytes) -> int:
    entries = at = 0
    while at + _ENTRY_BYTES <= len(directory) and entries <= MAX_ENTRIES:
        if not directory.startswith(b"PK\1\2", at):
            break
        at += _ENTRY_BYTES + sum(struct.unpack_from("<3H", directory, at + 28))
        entries += 1
    return entries


def _too_many() -> ArchiveInvalid:
    return ArchiveInvalid(
        f"The archive has more than {MAX_ENTRIES} entries; put the folder on the data root."
    )
