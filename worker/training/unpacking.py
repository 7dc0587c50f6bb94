"""An uploaded archive into the folder of its dataset, by the plan that was made of it."""

import os
import shutil
from pathlib import Path
from typing import IO

from models.archives import Member, opened
from models.errors import ArchiveInvalid
from worker.training.dataset_check import OnFiles

_PIECE = 2**20


def unpack(archive: Path, folder: Path, max_bytes: int, on_files: OnFiles) -> None:
    """Make ``folder``, with every image of the archive in it, durable. Raises ArchiveInvalid, OSError.

    Whoever unpacked before us into the same folder was killed in the middle of it: begun anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with opened(archive, max_bytes) as plan:
        for done, member in enumerate(plan.members):
            on_files(done, len(plan.members))
            target = folder / member.target
            target.parent.mkdir(parents=True, exist_ok=True)
            # Never through a link, nor into a file that is there: names were held apart before.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with plan.archive.open(member.entry) as source, os.fdopen(descriptor, "wb") as sink:
                _copy(member, source, sink)
    # Once for all files, since one fsync a file would take longer than everything else.
    os.sync()


def _copy(member: Member, source: IO[bytes], sink: IO[bytes]) -> None:
    size = 0
    while piece := source.read(_PIECE):
        size += len(piece)
        if size > member.entry.file_size:
            raise ArchiveInvalid(f"{member.target!r} holds more than the archive's directory says.")
        sink.write(piece)
    if size != member.entry.file_size:
        raise ArchiveInvalid(f"{member.target!r} holds less than the archive's directory says.")
