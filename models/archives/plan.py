"""What of an archive will be unpacked, and to where; decided, and refused, before a byte is written."""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.archives.directory import expect_few_entries
from models.archives.images import HEAD_BYTES, SUFFIXES, expect_image
from models.archives.labels import MAX_CSV_BYTES, has_labels, targets_by_labels
from models.archives.layout import expect_classes
from models.archives.names import safe_parts, same_place, shown
from models.errors import ArchiveInvalid

#: Photographs do not get smaller; what does so much is made for that, or is drawn and small.
MAX_RATIO = 50
SMALL_BYTES = 64 * 2**20
MAX_FILE_BYTES = 256 * 2**20
_NESTED = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_IGNORED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_BROKEN = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One image of an archive."""

    entry: zipfile.ZipInfo
    target: str  #: below the dataset's folder, with forward slashes


@dataclass(frozen=True)
class Plan:
    """All that will be unpacked, in the order of the targets."""

    archive: zipfile.ZipFile
    members: list[Member]


@contextlib.contextmanager
def opened(path: Path, max_bytes: int) -> Iterator[Plan]:
    """The plan for an archive. Raises ArchiveInvalid, with the first thing that is wrong with it.

    ``max_bytes``: of all files together, once they are unpacked.
    """
    try:
        with path.open("rb") as stream:
            directory_at = expect_few_entries(stream)
            with zipfile.ZipFile(stream) as archive:
                _expect_bounded(archive, path.stat().st_size, max_bytes)
                _expect_apart(archive, directory_at)
                yield Plan(archive, _members(archive))
    except _BROKEN as error:
        raise ArchiveInvalid(
            f"The archive is damaged: {str(error)[:200] or type(error).__name__}."
        ) from error


def expect_images(plan: Plan) -> None:
    """Raises ArchiveInvalid for the first file that plainly is no image; reads the beginning of each."""
    for member in plan.members:
        with plan.archive.open(member.entry) as stream:
            expect_image(member.target, stream.read(HEAD_BYTES))


def _expect_bounded(archive: zipfile.ZipFile, archive_bytes: int, max_bytes: int) -> None:
    total = 0
    for entry in archive.infolist():
        total += entry.file_size
        if entry.file_size > MAX_FILE_BYTES:
            raise ArchiveInvalid(f"{shown(entry.filename)} has more than {MAX_FILE_BYTES // 2**20} MiB.")
    if total > max(SMALL_BYTES, MAX_RATIO * archive_bytes):
        raise ArchiveInvalid(
            f"The archive unpacks to more than {MAX_RATIO} times its size; that is no photographs."
        )
    if total > max_bytes:
        raise ArchiveInvalid(f"The archive unpacks to {total} bytes; this server takes {max_bytes}.")


def _expect_apart(archive: zipfile.ZipFile, directory_at: int) -> None:
    """Entries that share bytes are how a small archive holds very much."""
    reached, before = 0, ""
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < reached:
            raise ArchiveInvalid(f"The entries {shown(before)} and {shown(entry.filename)} overlap.")
        reached, before = entry.header_offset + 30 + entry.compress_size, entry.filename
    if reached > directory_at:
        raise ArchiveInvalid(f"The entry {shown(before)} reaches into the archive's directory.")


def _members(archive: zipfile.ZipFile) -> list[Member]:
    entries: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    folders: set[tuple[str, ...]] = set()
    for entry in archive.infolist():
        parts = _expect_plain(entry)
        if any(part.startswith(".") or part in _IGNORED for part in parts):
            continue
        if entry.is_dir():
            folders.add(parts)
        elif parts in entries:
            raise ArchiveInvalid(f"{shown(entry.filename)} is there twice.")
        else:
            entries[parts] = entry
    for parts in entries:
        folders |= {parts[:length] for length in range(1, len(parts))}
    _expect_different(set(entries), folders)
    images = {parts for parts in entries if _suffix(parts) in SUFFIXES}
    tables = {parts for parts in entries if _suffix(parts) == ".csv"}
    top = _common_top(images, tables, folders)
    files = {"/".join(parts[top:]): entries[parts] for parts in images}
    at_top = {parts[-1]: _table(archive, entries[parts]) for parts in tables if len(parts) == top + 1}
    # Beside class folders a CSV may be about anything; where there are none it must be the labels.
    if any("/" in name for name in files):
        at_top = {name: content for name, content in at_top.items() if has_labels(content)}
    if len(at_top) > 1:
        raise ArchiveInvalid(
            "There are several CSVs at the top of the archive; leave the one with the labels."
        )
    if at_top:
        [(name, content)] = at_top.items()
        targets = targets_by_labels(name, content, files)
        _expect_different({tuple(target.split("/")) for target in targets.values()}, set())
        expect_classes(targets.values(), [])
    else:
        targets = {name: name for name in files}
        expect_classes(files, ["/".join(parts[top:]) for parts in folders if len(parts) > top])
    members = [Member(files[name], target) for name, target in targets.items()]
    return sorted(members, key=lambda member: member.target)


def _expect_plain(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    """The parts of its name. Raises ArchiveInvalid for what is no plain file or folder, or not readable."""
    parts = safe_parts(entry.orig_filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise ArchiveInvalid(
            f"{shown(entry.filename)} is a link or a device; only files and folders are taken."
        )
    if entry.flag_bits & 0x41:
        raise ArchiveInvalid(f"{shown(entry.filename)} is encrypted.")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ArchiveInvalid(
            f"{shown(entry.filename)} is compressed in a way that is not taken; use stored or deflate."
        )
    if PurePosixPath(entry.filename).suffix.lower() in _NESTED and not entry.is_dir():
        raise ArchiveInvalid(
            f"{shown(entry.filename)} is an archive in the archive; send its files themselves."
        )
    return parts


def _expect_different(files: set[tuple[str, ...]], folders: set[tuple[str, ...]]) -> None:
    """No two names, of folders on the way too, may be one on a file system that thinks little of case."""
    on_the_way = {parts[:length] for parts in files for length in range(1, len(parts))}
    seen: dict[str, str] = {}
    for parts in files | folders | on_the_way:
        path = "/".join(parts)
        other = seen.setdefault(same_place(path), path)
        if other != path:
            first, second = sorted((path, other))
            raise ArchiveInvalid(
                f"{shown(first)} and {shown(second)} are one name to some file systems; rename one."
            )
    for parts in files & (folders | on_the_way):
        raise ArchiveInvalid(f"{shown('/'.join(parts))} is a file and a folder.")


def _common_top(
    images: set[tuple[str, ...]], tables: set[tuple[str, ...]], folders: set[tuple[str, ...]]
) -> int:
    """How many folders are around everything: a folder that was zipped brings its own name along."""
    top = 0
    while True:
        around = {parts[top] for parts in images | tables | folders if len(parts) > top}
        is_around_classes = bool(images) and all(len(parts) > top + 2 for parts in images)
        is_around_table = any(len(parts) == top + 2 for parts in tables)
        if len(around) != 1 or around & {"train", "val"} or not (is_around_classes or is_around_table):
            return top
        top += 1


def _table(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MAX_CSV_BYTES:
        raise ArchiveInvalid(f"{shown(entry.filename)} has more than {MAX_CSV_BYTES // 2**20} MiB.")
    return archive.read(entry)


def _suffix(parts: tuple[str, ...]) -> str:
    return PurePosixPath(parts[-1]).suffix.lower()
