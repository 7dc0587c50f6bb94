"""Finds a dataset's files and makes sure, before any training, that all of them can be trained on."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from models.archives.images import MAX_ASPECT_RATIO, SUFFIXES
from models.errors import DatasetChanged, DatasetInvalid
from worker.training.images import MAX_FILE_BYTES, decode
from worker.training.manifest import NAMED_AT_MOST, Manifest, ManifestFile, Split, hash_file

OnFiles = Callable[[int, int], object]  #: files done, files in all


@dataclass(frozen=True, slots=True)
class ListedFile:
    path: str  #: below the dataset's folder
    size: int
    mtime_ns: int
    class_name: str
    split: Split | None  #: None where the folders do not say it


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that was read and decoded, or the reason why that cannot be done."""

    file: ListedFile
    sha256: str
    width: int
    height: int
    problem: str | None


def dataset_folder(data_root: Path, relative_path: str) -> Path:
    """The dataset's folder. Raises DatasetInvalid if there is none below the data root."""
    root = data_root.resolve()
    folder = (root / relative_path).resolve()
    if not folder.is_relative_to(root):
        raise DatasetInvalid(f"The dataset path {relative_path!r} leads out of the data root.")
    if not folder.is_dir():
        raise DatasetInvalid(f"There is no folder {relative_path!r} below the data root.")
    return folder


def check(
    folder: Path, data_root: Path, val_share: float, seed: int, threads: int, on_files: OnFiles
) -> Manifest:
    """Read and decode every file. Raises DatasetInvalid that names the files or the class at fault."""
    return split(check_unsplit(folder, data_root, threads, on_files), val_share, seed)


def check_unsplit(folder: Path, data_root: Path, threads: int, on_files: OnFiles) -> Manifest:
    """The same before a split was chosen. Raises DatasetInvalid."""
    listed = list_files(folder, data_root)
    classes = expect_classes(listed)
    examined = list(examine(folder, listed, threads, on_files))
    if problems := [f"{e.file.path}: {e.problem}" for e in examined if e.problem]:
        raise DatasetInvalid(unreadable(problems, len(listed)))
    return manifest_of(classes, examined)


def expect_classes(listed: list[ListedFile]) -> list[str]:
    """The classes in their order. Raises DatasetInvalid for files that nobody can learn to tell apart."""
    classes = sorted({file.class_name for file in listed})
    if len(classes) < 2:
        raise DatasetInvalid("The dataset has a single class; a classifier needs at least two folders.")
    if listed[0].split is not None:
        _expect_same_classes(listed, classes)
    elif max(Counter(file.class_name for file in listed).values()) < 2:
        raise DatasetInvalid("No image is left for validation: every class has a single one.")
    return classes


def manifest_of(classes: list[str], examined: list[Examined]) -> Manifest:
    """The list of files that are all good, split where their folders say so."""
    return Manifest(
        classes,
        [
            ManifestFile(f.path, f.size, f.mtime_ns, e.sha256, classes.index(f.class_name), f.split)
            for e in examined
            for f in [e.file]
        ],
    )


def split(manifest: Manifest, val_share: float, seed: int) -> Manifest:
    """The same files, each on a side: the one that its folder says, or that share and seed choose."""
    if manifest.files[0].split is not None:
        return manifest
    validating = _validating(manifest, val_share, seed)
    sides: dict[bool, Split] = {True: "val", False: "train"}
    return Manifest(
        manifest.classes, [replace(file, split=sides[file.path in validating]) for file in manifest.files]
    )


def compare(
    folder: Path, data_root: Path, manifest: Manifest, on_files: OnFiles, *, since: str = "the job began"
) -> None:
    """Raises DatasetChanged that names the files which are new, gone or different since the manifest.

    A file with another time but the same bytes is no difference: it may have been copied or restored.
    """
    try:
        now = {file.path: file for file in list_files(folder, data_root)}
    except DatasetInvalid as error:
        raise DatasetChanged(f"The dataset changed since {since}: {error.message}") from error
    found = []
    for done, then in enumerate(manifest.files):
        on_files(done, len(manifest.files))
        file = now.pop(then.path, None)
        if file is None:
            found.append(f"{then.path!r} is gone")
        elif file.size != then.size or (
            file.mtime_ns != then.mtime_ns and hash_file(folder / then.path) != then.sha256
        ):
            found.append(f"{then.path!r} is different")
    found += [f"{path!r} is new" for path in now]
    if found:
        raise DatasetChanged(
            f"The dataset changed since {since}: {_enumerate(found)}. "
            "Restore it and retry, or submit a new job for the new data."
        )


def list_files(folder: Path, data_root: Path) -> list[ListedFile]:
    """Every image in the order of its path. Raises DatasetInvalid for folders that hold no dataset."""
    root = data_root.resolve()
    sides = [name for name in ("train", "val") if _holds_folders(folder / name)]
    if len(sides) == 1:
        present, absent = sides[0], "val" if sides[0] == "train" else "train"
        raise DatasetInvalid(
            f"There is a folder {present!r} with classes but no {absent!r} beside it; add it, "
            "or put the class folders directly into the dataset's folder."
        )
    parents: list[tuple[Split | None, Path]] = [("train", folder / "train"), ("val", folder / "val")]
    listed = []
    for side, parent in parents if sides else [(None, folder)]:
        for class_folder in _class_folders(parent):
            files = list(_images_below(class_folder, folder, root))
            if not files:
                raise DatasetInvalid(f"The class {_relative(class_folder, folder)!r} has no images.")
            listed += [
                ListedFile(_relative(path, folder), stat.st_size, stat.st_mtime_ns, class_folder.name, side)
                for path, stat in files
            ]
    if not listed:
        raise DatasetInvalid("The dataset's folder has no class folders with images in them.")
    return sorted(listed, key=lambda file: file.path)


def _holds_folders(folder: Path) -> bool:
    return folder.is_dir() and any(_class_folders(folder))


def _class_folders(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield path


def _images_below(class_folder: Path, folder: Path, root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    _expect_inside(class_folder, folder, root)
    for parent, folders, names in os.walk(class_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _expect_inside(Path(parent, name), folder, root)
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                _expect_inside(path, folder, root)
                try:
                    found = path.stat()
                except OSError as error:
                    raise DatasetInvalid(f"{_relative(path, folder)!r}: {error.strerror}.") from error
                if not S_ISREG(found.st_mode):  # whoever opens a pipe waits for somebody to write into it
                    raise DatasetInvalid(f"{_relative(path, folder)!r} is a pipe or a device, not a file.")
                yield path, found


def _expect_inside(path: Path, folder: Path, root: Path) -> None:
    if not _is_text(path.name):
        name = path.name.encode(errors="backslashreplace").decode()
        raise DatasetInvalid(f"The name {name!r} is not UTF-8; rename the file.")
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise DatasetInvalid(f"{_relative(path, folder)!r} is a link that leads out of the data root.")


def _validating(manifest: Manifest, share: float, seed: int) -> set[str]:
    """The files that validate: of each class the share with the smallest hashes of (seed, path)."""
    by_class: dict[int, list[str]] = defaultdict(list)
    for file in manifest.files:
        by_class[file.label].append(file.path)
    validating: set[str] = set()
    for paths in by_class.values():
        number = min(max(round(len(paths) * share), 1), len(paths) - 1)
        paths.sort(key=lambda path: sha256(repr((seed, "split", path)).encode()).digest())
        validating.update(paths[:number])
    return validating


def _expect_same_classes(listed: list[ListedFile], classes: list[str]) -> None:
    for side, other in (("train", "val"), ("val", "train")):
        present = {file.class_name for file in listed if file.split == side}
        for name in classes:
            if name not in present:
                raise DatasetInvalid(f"The class {name!r} is in the folder {other!r} but not in {side!r}.")


def examine(folder: Path, listed: list[ListedFile], threads: int, on_files: OnFiles) -> Iterator[Examined]:
    """Read, hash and decode every file, in order."""

    def look(file: ListedFile) -> Examined:
        if file.size > MAX_FILE_BYTES:  # it would have to be read into memory to find out that it is no image
            return Examined(file, "", 0, 0, f"{file.size} bytes are more than any image has")
        try:
            content = (folder / file.path).read_bytes()
            image = decode(content)
        except OSError as error:
            return Examined(file, "", 0, 0, error.strerror or str(error))
        except ValueError as error:
            return Examined(file, "", 0, 0, str(error))
        return Examined(file, sha256(content).hexdigest(), *image.size, _too_elongated(*image.size))

    # Threads, since hashing and decoding release the interpreter's lock.
    pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="dataset")
    try:
        for done, examined in enumerate(pool.map(look, listed)):
            on_files(done, len(listed))
            yield examined
    finally:
        pool.shutdown(cancel_futures=True)


def _too_elongated(width: int, height: int) -> str | None:
    # Here and not where images are decoded: what a job began with it also goes on with.
    if max(width, height) <= MAX_ASPECT_RATIO * min(width, height):
        return None
    return f"{width} × {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other; crop it"


def unreadable(problems: list[str], num_files: int) -> str:
    """The sentence that names them."""
    return f"{len(problems)} of {num_files} files cannot be used: {_enumerate(problems)}."


def _enumerate(problems: list[str]) -> str:
    more = len(problems) - NAMED_AT_MOST
    return "; ".join(problems[:NAMED_AT_MOST]) + (f"; and {more} more" if more > 0 else "")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
