"""Names from outside: only those that mean one file, below the folder that they are put into, everywhere."""

import unicodedata
from urllib.parse import unquote

from models.errors import ArchiveInvalid

MAX_NAME_BYTES = 1000
MAX_PART_BYTES = 200


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of an entry's name. Raises ArchiveInvalid for one that may lead elsewhere."""
    if not name or name.startswith("/") or "\\" in name or name[1:2] == ":":
        raise ArchiveInvalid(f"The name {shown(name)} is not relative with forward slashes.")
    if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
        raise ArchiveInvalid(f"The name {shown(name)} has more than {MAX_NAME_BYTES} bytes.")
    return tuple(safe_part(part) for part in name.removesuffix("/").split("/"))


def safe_part(part: str) -> str:
    """One name of a file, a folder or a class. Raises ArchiveInvalid."""
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        raise ArchiveInvalid(f"The name {shown(part)} is not UTF-8.") from None
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in part):
        raise ArchiveInvalid(f"The name {shown(part)} has control characters.")
    if not 0 < size <= MAX_PART_BYTES or not part.strip():
        raise ArchiveInvalid(f"The name {shown(part)} is empty, or has more than {MAX_PART_BYTES} bytes.")
    # As whoever unquotes or normalises it later would read it.
    read = unicodedata.normalize("NFKC", unquote(unquote(part)))
    if read.startswith("..") or read == "." or "/" in read or "\\" in read or "\0" in read:
        raise ArchiveInvalid(f"The name {shown(part)} may lead out of its folder.")
    return part


def same_place(path: str) -> str:
    """Equal for names that some file systems take for one: case, and ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def shown(name: str) -> str:
    """For a message: printable, and no longer than a line."""
    printable = name.encode(errors="backslashreplace").decode()
    return repr(printable if len(printable) <= 80 else f"{printable[:77]}…")
