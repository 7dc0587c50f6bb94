"""``client.keys``: the API keys of one's own tenant; all of it takes a key with the scope ``admin``."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from perdure.transport import Transport
from perdure.types import Key, Page


class Keys:
    """The keys of the caller's tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, scopes: Sequence[str] = ("read", "write")) -> Key:
        """Make a key; ``key`` of the answer is the only time that it is shown.

        It is None if the answer was lost on its way and had to be asked for again: revoke that key then, and
        make another.
        """
        answer = self._transport.post("/keys", {"name": name, "scopes": list(scopes)})
        return Key.model_validate(answer)

    def list(self) -> Iterator[Key]:
        """The newest first, those that were revoked too."""
        after: str | int | None = None
        while True:
            page = Page.model_validate(self._transport.get("/keys", {"after": after, "limit": 100}))
            for row in page.data:
                yield Key.model_validate(row)
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def revoke(self, key_id: str) -> None:
        """Let it open nothing any more, within a few seconds. Raises NotFoundError."""
        self._transport.request("DELETE", f"/keys/{quote(key_id, safe='')}")
