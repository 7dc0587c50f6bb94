"""Lists as iterators that fetch page after page as they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

from perdure.transport import Transport
from perdure.types import Page


def rows(
    transport: Transport,
    path: str,
    filters: Mapping[str, Any],
    *,
    page_size: int,
    after: str | int | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows behind ``path`` from after ``after``; at most ``limit`` of them (all, if it is None)."""
    remaining = limit
    while remaining is None or remaining > 0:
        size = page_size if remaining is None else min(page_size, remaining)
        page = Page.model_validate(transport.get(path, {**filters, "limit": size, "after": after}))
        yield from page.data
        if not page.has_more or page.last_id is None:
            return
        after = page.last_id
        remaining = None if remaining is None else remaining - len(page.data)
