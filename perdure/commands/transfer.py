"""A progress bar for what is sent or fetched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from perdure import terminal as t


@contextmanager
def transfer_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Shows the bytes done and in all that it is called with; nothing if ``quiet``, or without a terminal."""
    out = t.console()
    bar = Progress(
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=out,
        transient=True,
        disable=quiet or not out.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=None)

        def on_bytes(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield on_bytes
