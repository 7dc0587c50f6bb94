"""The check of one registered dataset: ``python -m worker.training.examine``, started by a light worker.

A process of its own, so that the light worker stays without torch, and lives on whatever an image does to
its decoder. The request is one JSON object on stdin: ``parent_pid, archive, builtin, folder, root,
max_bytes, storage_url, manifest_key, threads``. Of these, ``archive`` is unpacked into ``folder`` first, and
``builtin`` (``name, builtins, data_root, downloads``) makes it; both are null for a folder that is there.
Lines on stdout are JSON: ``done, total`` while it works; at last ``digest, size_bytes, found``, or
``code, message, found`` with exit status 1.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from models.errors import ArchiveInvalid, DatasetInvalid, PerdureError, StorageFailed
from models.storage import storage_from_url
from worker.process_guard import be_first_to_go, die_with_parent
from worker.training.builtin import ensure
from worker.training.dataset_check import (
    Examined,
    OnFiles,
    examine,
    expect_classes,
    list_files,
    manifest_of,
    unreadable,
)
from worker.training.unpacking import unpack

#: Below everything that trains on this machine.
NICENESS = 10
#: So many unreadable images are named; more are only counted.
NAMED_PROBLEMS = 100
PROGRESS_SECONDS = 0.2


def answer(request: dict[str, Any], on_files: OnFiles) -> dict[str, Any]:
    """Carry out one request; what is wrong with the dataset is part of the answer."""
    folder, found = Path(request["folder"]), None
    try:
        if request["archive"] is not None:
            unpack(Path(request["archive"]), folder, request["max_bytes"], on_files)
        if (wanted := request["builtin"]) is not None:
            builtins, data_root = Path(wanted["builtins"]), Path(wanted["data_root"])
            ensure(wanted["name"], builtins, data_root, downloads=wanted["downloads"], on_files=on_files)
        listed = list_files(folder, Path(request["root"]))
        classes = expect_classes(listed)
        examined = list(examine(folder, listed, request["threads"], on_files))
        found = _found(classes, examined)
        if problems := [f"{each.file.path}: {each.problem}" for each in examined if each.problem]:
            raise DatasetInvalid(unreadable(problems, len(examined)))
        manifest = manifest_of(classes, examined)
        manifest.write(storage_from_url(request["storage_url"]), request["manifest_key"])
    except PerdureError as error:
        # An archive was looked at before it was taken: what is wrong with it now is its content.
        code = DatasetInvalid.code if isinstance(error, ArchiveInvalid) else error.code
        return {"code": code, "message": error.message, "found": found}
    except OSError as error:
        message = f"The dataset's files cannot be written or read: {error.strerror or error}."
        return {"code": StorageFailed.code, "message": message, "found": None}
    size_bytes = sum(each.file.size for each in examined)
    return {"digest": manifest.digest, "size_bytes": size_bytes, "found": found}


def _found(classes: list[str], examined: list[Examined]) -> dict[str, Any]:
    """What users see of a dataset; counts by split (``all`` where jobs split it themselves) and class."""
    counts: dict[str, dict[str, int]] = {}
    for each in examined:
        of_split = counts.setdefault(each.file.split or "all", dict.fromkeys(classes, 0))
        of_split[each.file.class_name] += 1
    good = [each for each in examined if each.problem is None]
    bad = [{"file": each.file.path, "message": each.problem} for each in examined if each.problem]
    sizes = None
    if good:
        widths, heights = [each.width for each in good], [each.height for each in good]
        sizes = {
            "min_width": min(widths),
            "max_width": max(widths),
            "min_height": min(heights),
            "max_height": max(heights),
        }
    return {
        "classes": classes,
        "counts": counts,
        "num_images": len(examined),
        "image_sizes": sizes,
        "problems": bad[:NAMED_PROBLEMS],
        "num_problems": len(bad),
    }


class _Progress:
    """Files so far as lines on stdout, a few a second at most: more would only fill the pipe."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            _say({"done": done, "total": total})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> int:
    # Read to its end before anything else: a parent that died has not written all of it.
    request = json.load(sys.stdin)
    die_with_parent(request["parent_pid"])
    be_first_to_go()
    os.nice(NICENESS)
    answered = answer(request, _Progress())
    _say(answered)
    return 1 if "code" in answered else 0


if __name__ == "__main__":
    sys.exit(main())
