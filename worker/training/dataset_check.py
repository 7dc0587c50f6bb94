"""Finds a dataset's files and makes sure, before any training, that all of them can be trained on."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from models.errors import DatasetChanged, DatasetInvalid
from worker.training.images import MAX_FILE_BYTES, SUFFIXES, decode
from worker.training.manifest import NAMED_AT_MOST, Manifest, ManifestFile, Split, hash_file

OnFiles = Callable[[int, int], object]  #: files done, files in all


@dataclass(frozen=True, slots=True)
class ListedFile:
    path: str  #: below the dataset's folder
    size: int
    mtime_ns: int
    class_name: str
    split: Split | None  #: None where the folders do not say it


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
    listed = list_files(folder, data_root)
    classes = sorted({file.class_name for file in listed})
    if len(classes) < 2:
        raise DatasetInvalid("The dataset has a single class; a classifier needs at least two folders.")
    if listed[0].split is None:
        sides = _split(listed, val_share, seed)
        if "val" not in sides:
            raise DatasetInvalid("No image is left for validation: every class has a single one.")
    else:
        sides = [file.split or "train" for file in listed]
        _expect_same_classes(listed, classes)
    hashes = _hash_and_decode(folder, listed, threads, on_files)
    files = [
        ManifestFile(file.path, file.size, file.mtime_ns, digest, classes.index(file.class_name), side)
        for file, digest, side in zip(listed, hashes, sides, strict=True)
    ]
    return Manifest(classes, files)


def compare(folder: Path, data_root: Path, manifest: Manifest, on_files: OnFiles) -> None:
    """Raises DatasetChanged that names the files which are new, gone or different since the manifest.

    A file with another time but the same bytes is no difference: it may have been copied or restored.
    """
    try:
        now = {file.path: file for file in list_files(folder, data_root)}
    except DatasetInvalid as error:
        raise DatasetChanged(f"The dataset changed since the job began: {error.message}") from error
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
            f"The dataset changed since the job began: {_enumerate(found)}. "
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


def _split(listed: list[ListedFile], share: float, seed: int) -> list[Split]:
    """A side for each file: the share of each class with the smallest hashes of (seed, path) validates."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for file in listed:
        by_class[file.class_name].append(file.path)
    validating = set()
    for paths in by_class.values():
        number = min(max(round(len(paths) * share), 1), len(paths) - 1)
        paths.sort(key=lambda path: sha256(repr((seed, "split", path)).encode()).digest())
        validating.update(paths[:number])
    return ["val" if file.path in validating else "train" for file in listed]


def _expect_same_classes(listed: list[ListedFile], classes: list[str]) -> None:
    for side, other in (("train", "val"), ("val", "train")):
        present = {file.class_name for file in listed if file.split == side}
        for name in classes:
            if name not in present:
                raise DatasetInvalid(f"The class {name!r} is in the folder {other!r} but not in {side!r}.")


def _hash_and_decode(folder: Path, listed: list[ListedFile], threads: int, on_files: OnFiles) -> list[str]:
    def examine(file: ListedFile) -> tuple[str, str | None]:
        if file.size > MAX_FILE_BYTES:  # it would have to be read into memory to find out that it is no image
            return "", f"{file.size} bytes are more than any image has"
        try:
            content = (folder / file.path).read_bytes()
            decode(content)
        except OSError as error:
            return "", error.strerror or str(error)
        except ValueError as error:
            return "", str(error)
        return sha256(content).hexdigest(), None

    hashes, problems = [], []
    # Threads, since hashing and decoding release the interpreter's lock.
    pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="dataset")
    try:
        for done, (file, (digest, problem)) in enumerate(zip(listed, pool.map(examine, listed), strict=True)):
            on_files(done, len(listed))
            hashes.append(digest)
            if problem:
                problems.append(f"{file.path}: {problem}")
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise DatasetInvalid(
            f"{len(problems)} of {len(listed)} files cannot be read: {_enumerate(problems)}."
        )
    return hashes


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
