"""How things look in a terminal, and in a pipe.

What came from a server or a file is never markup and never moves the cursor: ``plain`` sees to both.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Where the output is not a terminal nothing should be folded to 80 columns.
PIPE_WIDTH = 160

STATUS_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "paused": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "dim",
}

CAUSES = {
    "finished": "finished",
    "trainer_killed": "trainer killed",
    "trainer_error": "trainer error",
    "out_of_memory": "out of memory",
    "stalled": "stalled",
    "worker_lost": "worker lost",
    "worker_error": "error in the worker",
    "preempted": "worker stopped in order",
    "paused": "paused",
    "cancelled": "cancelled",
    "lease_lost": "lease lost",
}


def console(*, stderr: bool = False) -> Console:
    """A console for stdout or stderr as they are now."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def plain(value: object) -> str:
    """Text that a terminal shows as it is: no markup, no escape sequences, no tricks with direction."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)))


def plain_lines(value: object) -> str:
    """The same for text of several lines."""
    return escape(printable_lines(str(value)))


def printable_lines(text: str) -> str:
    """Text of several lines that moves no cursor, where nothing is taken for markup."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """One JSON document on one line, at once, for whoever reads along."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; the cells are markup, so pass what is not yours through ``plain``."""
    result = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", no_wrap=column == "id")
    for row in rows:
        result.add_row(*row)
    return result


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names on the left, values on the right."""
    result = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in rows:
        result.add_row(name, value)
    return result


def status(name: str) -> str:
    """A job's status in its colour."""
    style = STATUS_STYLES.get(name, "default")
    return f"[{style}]{plain(name)}[/]"


def cause(name: str | None) -> str:
    """Why an attempt ended, in words."""
    return CAUSES.get(name or "", plain(name or ""))


def number(value: float | None, digits: int = 4) -> str:
    """A fixed number of digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
    """A duration as people say it."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float | None) -> str:
    """Bytes in a unit that keeps the number short."""
    if num_bytes is None:
        return "–"
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def ago(instant: datetime | None, now: datetime | None = None) -> str:
    """How long ago that was."""
    if instant is None:
        return "–"
    passed = ((now or datetime.now(UTC)) - instant).total_seconds()
    if passed < 60:
        return "just now"
    if passed < 3600:
        return f"{passed / 60:.0f} min ago"
    if passed < 172_800:
        return f"{passed / 3600:.0f} h ago"
    return f"{passed / 86_400:.0f} days ago"


def local_time(instant: datetime | None) -> str:
    """An instant in the reader's own time zone."""
    return "–" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
