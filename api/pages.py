"""Keyset pages: one row more than asked for was read, which tells whether there is another page."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from api.answers import Page

T = TypeVar("T")


def page(rows: Sequence[Any], limit: int, key: str, show: Callable[[Any], T]) -> Page[T]:
    """The first ``limit`` of ``rows``, as ``show`` makes them; ``key`` is the column that `after` goes by."""
    shown = rows[:limit]
    return Page(
        data=[show(row) for row in shown],
        has_more=len(rows) > limit,
        last_id=getattr(shown[-1], key) if shown else None,
    )
