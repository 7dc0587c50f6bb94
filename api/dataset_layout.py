"""A dataset's folders, looked at before a job is accepted: by names alone, and never at too many.

The trainer's own check reads and decodes every file; this one finds within a second what is plainly wrong.
"""

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.archives.images import SUFFIXES
from models.errors import DatasetInvalid, SpecInvalid

#: Beyond so many entries of folders, each further class is only looked at until its first image.
COUNTED_ENTRIES = 50_000
MAX_CLASSES = 10_000
_FIELD = "dataset.path"
_SUFFIXES = tuple(SUFFIXES)


@dataclass(frozen=True)
class Layout:
    """What the names in the folders say."""

    classes: list[str]
    num_train: int
    num_val: int | None  #: None where the images will be split by the trainer
    is_exact: bool  #: False when counting stopped at COUNTED_ENTRIES
    folders: Mapping[str, "Stamp | None"] = field(
        default_factory=dict
    )  #: that were read, as they were before


@dataclass(frozen=True)
class Stamp:
    """What of a folder changes whenever a name in it comes, goes or becomes another's."""

    inode: int
    modified_ns: int
    changed_ns: int


def stamp_of(folder: str) -> Stamp | None:
    """None for one that is gone."""
    try:
        found = os.stat(folder)  # noqa: PTH116 - thousands of them, by text
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def below_data_root(data_root: Path, relative: str, field: str, *, uploads: Path) -> Path:
    """The real place of a user's path. Raises SpecInvalid unless it exists below the data root.

    Nothing does below ``uploads``: what others have sent is theirs, and only reached by its id.
    """
    if relative.startswith("/") or "\\" in relative or ".." in relative.split("/"):
        raise SpecInvalid(
            "The path must lie below the data root: relative, without `..` or `\\`.", field=field
        )
    try:
        root = data_root.resolve()
        path = (root / relative).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # absent, too long, a loop of links, or no path at all
        raise SpecInvalid("There is nothing at this path below the data root.", field=field) from None
    if path.is_relative_to(uploads.resolve()):
        raise SpecInvalid("Uploaded datasets are used by their id.", field=field)
    if not path.is_relative_to(root):
        raise SpecInvalid("The path leads out of the data root.", field=field)
    return path


def look_at(data_root: Path, relative: str, *, uploads: Path) -> Layout:
    """Raises SpecInvalid for the path, DatasetInvalid for what is there."""
    return look_in(below_data_root(data_root, relative, _FIELD, uploads=uploads), data_root)


def look_in(folder: Path, data_root: Path) -> Layout:
    """As ``look_at``, in a place that is known to lie below the data root."""
    if not folder.is_dir():
        raise DatasetInvalid("The path is a file; a dataset is a folder.", field=_FIELD)
    counter = _Counter(data_root.resolve())
    try:
        return _layout(folder, counter)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise DatasetInvalid(f"The dataset's folder cannot be listed: {reason}.", field=_FIELD) from None


def _layout(folder: Path, counter: "_Counter") -> Layout:
    sides = [
        name
        for name in ("train", "val")
        if (folder / name).is_dir() and any(counter.folders_in(folder / name))
    ]
    if len(sides) == 1:
        absent = "val" if sides == ["train"] else "train"
        raise _invalid(
            f"There is a folder {sides[0]!r} with classes but no {absent!r} beside it; add it, "
            "or put the class folders directly into the dataset's folder."
        )
    if not sides:
        images = counter.classes_in(folder)
        if max(images.values()) < 2:
            raise _invalid("No image is left for validation: every class has a single one.")
        return Layout(sorted(images), sum(images.values()), None, counter.is_exact, counter.folders)
    train, val = counter.classes_in(folder / "train"), counter.classes_in(folder / "val")
    for side, there, other in (("train", train, val), ("val", val, train)):
        if missing := sorted(other.keys() - there.keys()):
            across = "val" if side == "train" else "train"
            raise _invalid(f"The class {missing[0]!r} is in the folder {across!r} but not in {side!r}.")
    numbers = sum(train.values()), sum(val.values())
    return Layout(sorted(train), *numbers, counter.is_exact, counter.folders)


class _Counter:
    """Counts images by class; remembers how much it looked at."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._looked_at = 0
        self.folders: dict[str, Stamp | None] = {}

    @property
    def is_exact(self) -> bool:
        return self._looked_at < COUNTED_ENTRIES

    def classes_in(self, parent: Path) -> dict[str, int]:
        """Images by class. Raises DatasetInvalid."""
        images: dict[str, int] = {}
        for entry in self.folders_in(parent):
            if len(images) >= MAX_CLASSES:
                raise _invalid(f"There are more than {MAX_CLASSES} classes.")
            self._expect_inside(entry)
            images[_text(entry.name)] = self._count(entry.path)
            if not images[entry.name]:
                raise _invalid(f"The class {entry.name!r} has no images.")
        if not images:
            raise _invalid("The dataset's folder has no class folders with images in them.")
        if len(images) < 2:
            raise _invalid("The dataset has a single class; a classifier needs at least two folders.")
        return images

    def folders_in(self, parent: Path) -> Iterator[os.DirEntry[str]]:
        """Without the hidden ones."""
        for entry in self._entries(str(parent)):
            if not entry.name.startswith(".") and entry.is_dir():
                yield entry

    def _entries(self, folder: str) -> Generator[os.DirEntry[str], None, None]:
        self.folders.setdefault(folder, stamp_of(folder))
        with os.scandir(folder) as entries:
            yield from entries

    def _count(self, folder: str) -> int:
        found = 0
        waiting = [folder]
        while waiting:
            with contextlib.closing(self._entries(waiting.pop())) as entries:
                for entry in entries:
                    self._looked_at += 1
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.name.lower().endswith(_SUFFIXES):
                        self._expect_inside(entry)
                        _text(entry.name)
                        found += 1
                    if found and not self.is_exact:
                        return found
        return found

    def _expect_inside(self, entry: os.DirEntry[str]) -> None:
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self._root):
            raise _invalid(f"{_text(entry.name)!r} is a link that leads out of the data root.")


def _text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise _invalid(f"The name {shown!r} is not UTF-8; rename the file.") from None
    return name


def _invalid(message: str) -> DatasetInvalid:
    return DatasetInvalid(message, field=_FIELD)
