"""A CSV of files and labels in the place of class folders."""

import csv
import io
from collections.abc import Collection

from models.archives.names import safe_part, safe_parts, shown
from models.errors import ArchiveInvalid

MAX_CSV_BYTES = 32 * 2**20
_SIDES = {"train", "val"}


def has_labels(content: bytes) -> bool:
    """Whether the first line names the columns that labels need."""
    first = content.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
    return {"file", "label"} <= {column.strip().lower() for column in first.split(",")}


def targets_by_labels(name: str, content: bytes, files: Collection[str]) -> dict[str, str]:
    """By file: where it lies once unpacked, ``[<split>/]<label>/<file>``.

    The first line names the columns: ``file``, ``label``, and ``split`` (train or val) if one likes. Files
    that no line names are left out. Raises ArchiveInvalid with the line at fault.
    """
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = [column.strip().lower() for column in rows.fieldnames or []]
        rows.fieldnames = columns
        if not {"file", "label"} <= set(columns) <= {"file", "label", "split"}:
            raise ArchiveInvalid(f"The first line of {name!r} must be `file,label` or `file,label,split`.")
        targets: dict[str, str] = {}
        for row in rows:
            file, target = _target(row, f"line {rows.line_num} of {name!r}", files)
            if file in targets:
                raise ArchiveInvalid(f"Line {rows.line_num} of {name!r}: {shown(file)} is there twice.")
            targets[file] = target
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArchiveInvalid(f"{name!r} is not CSV in UTF-8: {error}.") from error
    if not targets:
        raise ArchiveInvalid(f"{name!r} names no file.")
    with_split = sum(target.count("/") > file.count("/") + 1 for file, target in targets.items())
    if with_split not in {0, len(targets)}:
        raise ArchiveInvalid(f"Some lines of {name!r} have a split and some have none.")
    return targets


def _target(row: dict[str, str | None], where: str, files: Collection[str]) -> tuple[str, str]:
    # Too few fields leave None behind, too many a list under the key None.
    if None in row or row.get("file") is None or row.get("label") is None:
        raise ArchiveInvalid(f"The number of fields is wrong in {where}.")
    file = "/".join(part for part in safe_parts(str(row["file"]).strip()) if part != ".")
    if file not in files:
        raise ArchiveInvalid(f"The file {shown(file)} in {where} is not in the archive, or is no image.")
    label = safe_part(str(row["label"]).strip())
    if label.startswith("."):
        raise ArchiveInvalid(f"The label {shown(label)} in {where} begins with a dot.")
    split = (row.get("split") or "").strip().lower()
    if split and split not in _SIDES:
        raise ArchiveInvalid(f"The split {shown(split)} in {where} is neither train nor val.")
    return file, "/".join([*([split] if split else []), label, file])
