"""Torchvision's own datasets as folders of images, so that everything after is as with any other dataset.

Each is fetched and read once, into a folder of its own below the uploads, which all tenants share.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from models.builtin_datasets import BUILTINS, WORK, Builtin, missing
from models.errors import DatasetUnavailable, StorageFailed
from worker.training.dataset_check import OnFiles
from worker.training.fetching import expect_whole, opened, watched


def ensure(name: str, builtins: Path, data_root: Path, *, downloads: bool, on_files: OnFiles) -> Path:
    """The folder of the dataset's images, below ``builtins``: durable, and made unless it is there.

    Several may do so at once, and any of them be killed: the first that has all of it gives it its name.
    ``on_files``: images done and in all, or MiB so far and 0. Raises DatasetUnavailable, StorageFailed, and
    what ``on_files`` raises.
    """
    folder = builtins / name
    if folder.is_dir():
        return folder
    builtin = BUILTINS[name]
    is_here = (data_root / builtin.files).exists()
    if not is_here and not downloads:
        raise DatasetUnavailable(missing(name))
    work = builtins / WORK / f"{name}.{uuid.uuid4().hex}"
    try:
        work.mkdir(parents=True)
        _write(builtin, data_root if is_here else work / "fetched", work, on_files, fetch=not is_here)
        # Once for all files, since one fsync a file would take longer than everything else.
        watched(os.sync, work, on_files)
        (work / "images").rename(folder)
    except OSError as error:
        if folder.is_dir():  # somebody else was first
            return folder
        raise StorageFailed(
            f"The images of {name} cannot be stored: {error.strerror or error}. Free some space for the "
            "uploads, or let PERDURE_UPLOADS_ROOT name a folder that every worker can write to."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _write(builtin: Builtin, root: Path, work: Path, on_files: OnFiles, *, fetch: bool) -> None:
    """All images below ``work/images``, as the splits say."""
    splits = {"": builtin.train} if builtin.val is None else {"train": builtin.train, "val": builtin.val}
    done = 0
    for side, arguments in splits.items():
        # One after the other: some have all of their pixels in memory.
        dataset = opened(builtin, root, arguments, downloads=fetch, work=work, on_files=on_files)
        total = done + len(dataset)
        for image, class_name in _samples(builtin, dataset, fetch=fetch):
            on_files(done, total)
            place = work / "images" / side / class_name
            place.mkdir(parents=True, exist_ok=True)
            _put(image, place / f"{done:06}", is_ours=fetch)
            done += 1


def _samples(builtin: Builtin, dataset: Any, *, fetch: bool) -> Iterator[tuple[Image.Image | Path, str]]:
    """Each image, or where its file is, with the name of its class as a folder may have it."""
    with expect_whole(builtin, downloads=fetch):
        # Some give several names for a class, the usual one first.
        names = builtin.classes or [n if isinstance(n, str) else n[0] for n in dataset.classes]
        for index in range(len(dataset)):
            image, label = dataset[index]
            if isinstance(image, Path) and not image.is_file():
                raise FileNotFoundError(f"{image.name} is missing")
            yield image, names[label].replace("/", "-")


def _put(image: Image.Image | Path, target: Path, *, is_ours: bool) -> None:
    if isinstance(image, Image.Image):
        # Uncompressed: the bytes, and so the digest, are the same whatever zlib this machine has.
        image.save(target.with_suffix(".bmp"), "BMP")
        return
    target = target.with_suffix(image.suffix.lower())
    if is_ours:
        image.rename(target)
    else:
        shutil.copyfile(image, target)
