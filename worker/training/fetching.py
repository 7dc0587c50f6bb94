"""One of torchvision's datasets opened, and fetched where it is not there: with progress, and with an end."""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

import torchvision

from models.builtin_datasets import Builtin
from models.errors import DatasetUnavailable
from worker.training.dataset_check import OnFiles

T = TypeVar("T")

#: A server that sends nothing for so long is given up.
SILENCE_SECONDS = 20.0
#: A look at how much is there walks over all of it.
LOOK_SECONDS = 2.0
#: What this machine refused, which another try may find mended.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


def opened(
    builtin: Builtin,
    root: Path,
    arguments: Mapping[str, Any],
    *,
    downloads: bool,
    work: Path,
    on_files: OnFiles,
) -> Any:
    """Torchvision's dataset of one split. Raises DatasetUnavailable, and OSError of the disk."""
    kind = getattr(torchvision.datasets, builtin.kind)
    # Images that are files are taken over as they are, undecoded.
    loader = {"loader": Path} if builtin.has_files else {}

    def act() -> Any:
        with _without_bars(), _silence_limited(), expect_whole(builtin, downloads=downloads):
            return kind(str(root), **arguments, **loader, download=downloads)

    return watched(act, work, on_files)


@contextlib.contextmanager
def expect_whole(builtin: Builtin, *, downloads: bool) -> Iterator[None]:
    """Whatever torchvision raises becomes DatasetUnavailable, but for what the disk refused."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if downloads:
            raise DatasetUnavailable(
                f"torchvision could not fetch {builtin.kind} ({reason}). Let the worker reach the internet, "
                f"or put torchvision's files ({builtin.files}) on the data root."
            ) from error
        raise DatasetUnavailable(
            f"What the data root has of {builtin.kind} ({builtin.files}) is not whole ({reason}). Put all of "
            "torchvision's files there, or remove them and let the worker fetch them."
        ) from error


def watched(act: Callable[[], T], work: Path, on_files: OnFiles) -> T:
    """``act`` in a thread, while ``on_files`` is told how many MiB lie below ``work``.

    Neither torchvision nor a sync tells how far it is. The thread is a daemon, so that who is asked to stop
    meanwhile, by what ``on_files`` raises, does not wait for the end of a download.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(act())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, name="fetching", daemon=True).start()
    while not wait([outcome], LOOK_SECONDS).done:
        on_files(_bytes_below(work) // 2**20, 0)
        with contextlib.suppress(OSError):
            os.utime(work)  # what is old is held to be left behind
    return outcome.result()


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # torchvision removes some archives itself
                total += Path(parent, name).stat().st_size
    return total


@contextlib.contextmanager
def _silence_limited() -> Iterator[None]:
    """Torchvision would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Torchvision's progress bars are for terminals, and this is a log."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
