"""What comes from elsewhere is shown, never obeyed."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from perdure import terminal as t


def rendered(markup: str) -> str:
    console = Console(force_terminal=True, width=80, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(markup)
    return capture.get().rstrip("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]not markup[/]", "[red]not markup[/]"),
        ("\x1b[31mred\x1b[0m", "�[31mred�[0m"),
        ("bell\x07", "bell�"),
        ("two\nlines", "two�lines"),
        ("right\u202eleft", "right�left"),
        ("Größe 日本", "Größe 日本"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert rendered(t.plain(text)) == shown


def test_logs_keep_their_lines() -> None:
    assert t.printable_lines("a\n\tb\x1b]0;title\x07") == "a\n\tb�]0;title�"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.5, "0.50 s"), (42.3, "42 s"), (125, "2 min 05 s"), (7260, "2 h 01 min")],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert t.seconds(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(512, "512 B"), (78_000_000, "78.0 MB"), (3e12, "3.0 TB")])
def test_size(value: float, shown: str) -> None:
    assert t.size(value) == shown


def test_ago() -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    assert t.ago(now - timedelta(seconds=5), now) == "just now"
    assert t.ago(now - timedelta(hours=3), now) == "3 h ago"
