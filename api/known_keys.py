"""API keys as the database has them, kept for a moment: most requests cost no look at it.

Used from the event loop; the looks are made by threads of their own, so that whoever floods the service with
unknown keys waits for these few and not every request for a thread.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from models import key_store
from models.database import Database
from models.errors import DatabaseUnavailable, PerdureError
from models.key_store import LAST_USED_SECONDS, KeyRow

#: For so long a revoked key may go on to work in this process,
FRESH_SECONDS = 2.0
#: and while the database is away, so that its users are told that and not that their key is wrong.
AWAY_SECONDS = 300.0
MAX_KEPT = 1000
LOOKING_THREADS = 4
_ANY = "any"  # no key's id
_log = structlog.get_logger()


class KnownKeys:
    """Made and closed by the app's lifespan."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._clock = db, clock
        self._kept: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._looking: dict[str, asyncio.Future[Any]] = {}
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._lookers = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="keys")
        # Apart, since a write may wait long for a lock.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="key-used")

    def close(self) -> None:
        """Give up what waits for a thread."""
        self._lookers.shutdown(wait=True, cancel_futures=True)
        self._writer.shutdown(wait=True, cancel_futures=True)

    async def find(self, key_id: str) -> KeyRow | None:
        """The key unless it is unknown or revoked, as of FRESH_SECONDS ago at most.

        While the database is away a key that was known lately goes on to be. Raises DatabaseUnavailable for
        others: nobody is let in, and nobody told that the key is wrong.
        """
        try:
            key: KeyRow | None = await self._fresh(key_id, lambda: key_store.find_key(self._db, key_id))
        except DatabaseUnavailable:
            key, seen_at = self._kept.get(key_id, (None, 0.0))
            if key is None or self._clock() - seen_at > AWAY_SECONDS:
                raise
        return key

    async def is_valid(self, key_id: str) -> bool:
        """Whether a key that let somebody in still would; nobody is cut off because the database is away."""
        try:
            return await self.find(key_id) is not None
        except DatabaseUnavailable:
            return True

    async def any(self) -> bool:
        """Whether a key was ever made. Raises DatabaseUnavailable: what is not known opens no door."""
        return bool(await self._fresh(_ANY, lambda: key_store.any_key(self._db)))

    def used(self, key_id: str) -> None:
        """Have it noted in the database, some time soon and once a minute."""
        now = self._clock()
        if now - self._noted.get(key_id, float("-inf")) < LAST_USED_SECONDS:
            return
        _keep(self._noted, key_id, now)
        self._writer.submit(self._note, key_id)

    async def _fresh(self, name: str, look: Callable[[], Any]) -> Any:
        kept = self._kept.get(name)
        if kept is not None and self._clock() - kept[1] < FRESH_SECONDS:
            return kept[0]
        looking = self._looking.get(name)
        if looking is None:  # else somebody is at it, and one look answers all who wait
            looking = self._looking[name] = asyncio.ensure_future(self._look(name, look))
            looking.add_done_callback(lambda done: self._looked(name, done))
        # A client that goes away must not take the answer of the others with it.
        return await asyncio.shield(looking)

    async def _look(self, name: str, look: Callable[[], Any]) -> Any:
        began = self._clock()  # a key that is revoked during the look is found revoked by the next
        found = await asyncio.get_running_loop().run_in_executor(self._lookers, look)
        if found is None:  # never kept: a new key works at once, and made-up ones do not drive out others
            self._kept.pop(name, None)
        else:
            _keep(self._kept, name, (found, began))
        return found

    def _looked(self, name: str, done: "asyncio.Future[Any]") -> None:
        self._looking.pop(name, None)
        if not done.cancelled():
            done.exception()  # whoever waits for it sees it; asyncio need not log it if nobody does any more

    def _note(self, key_id: str) -> None:
        try:
            key_store.key_used(self._db, key_id)
        except PerdureError as error:
            _log.warning("key.use_not_noted", key_id=key_id, code=error.code)


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)
