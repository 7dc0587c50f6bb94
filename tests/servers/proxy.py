"""A TCP proxy on loopback that breaks as networks do, on command and for whoever connects through it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from tests.servers.ports import free_port

T = TypeVar("T")
Direction = Literal["both", "to_server", "to_client"]

_CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)
_REMEMBERED_BYTES = 1_000_000
#: How PostgreSQL is told to commit, and how it says that it did.
_COMMIT, _COMMITTED = b"COMMIT", b"COMMIT\0"


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    said: bytearray = field(default_factory=bytearray)  #: by the client since its last COMMIT
    doomed: bool = False  #: the reply to the COMMIT under way gets lost
    pumps: list["asyncio.Task[None]"] = field(default_factory=list)

    def cut(self) -> None:
        """With a reset, as from a machine that is gone; an orderly end would say that all was said."""
        for writer in (self.client, self.server):
            if writer is not None and not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()


class Proxy:
    """Listens on ``port``, which stays the same; every method may be called from the test's thread."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._delay_seconds = 0.0
        self._listener: asyncio.Server | None = None
        self._loses_reply: Callable[[bytes], bool] | None = None
        self._num_lost = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- Faults ----------------------------------------------------------------------------------

    def heal(self, *, cut: bool = False) -> None:
        """Everything passes again. What was held back arrives late, unless those connections are cut."""
        self._call(self._heal(cut))

    def blackhole(self, direction: Direction = "both") -> None:
        """Connections are kept and accepted, and no byte gets through."""
        self._call(self._hold(direction))

    def refuse(self) -> None:
        """Nobody listens any more; open connections are cut."""
        self._call(self._refuse())

    def delay(self, seconds: float) -> None:
        """Every piece takes so much longer, in either direction."""
        self._delay_seconds = seconds

    def cut(self) -> int:
        """Reset whatever is open, in the middle of what it says; new connections pass. How many."""
        return self._call(self._cut())

    def drop_reply_after(self, *markers: bytes, without: bytes | None = None) -> None:
        """Once: a transaction that said all of this is committed, and its client never learns of it.

        Markers are looked for in what the client sent since its last COMMIT: words of the statements, or
        values of theirs. ``without`` tells it from another transaction that says the same and more.
        """

        def loses(said: bytes) -> bool:
            return all(marker in said for marker in markers) and (without is None or without not in said)

        self._loses_reply = loses

    @property
    def num_lost_replies(self) -> int:
        return self._num_lost

    @property
    def num_connections(self) -> int:
        return len(self._links)

    # -- In the loop's thread ----------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout=10)

    async def _open(self) -> None:
        self._passing = {"to_server": asyncio.Event(), "to_client": asyncio.Event()}
        for gate in self._passing.values():
            gate.set()
        await self._listen()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        await self._refuse()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _heal(self, cut: bool) -> None:
        if cut:
            await self._cut()
        self._delay_seconds = 0.0
        for gate in self._passing.values():
            gate.set()
        if self._listener is None:
            await self._listen()

    async def _hold(self, direction: Direction) -> None:
        for name, gate in self._passing.items():
            if direction in {"both", name}:
                gate.clear()

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            # Before the server hears of the client: a partition hides that it ever called.
            await self._passing["to_server"].wait()
            answers, link.server = await asyncio.open_connection("127.0.0.1", self._target_port)
            link.pumps = [
                asyncio.create_task(self._pump(link, reader, link.server, "to_server")),
                asyncio.create_task(self._pump(link, answers, link.client, "to_client")),
            ]
            await asyncio.wait(link.pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server is away: its client sees a reset
        finally:
            for pump in link.pumps:
                pump.cancel()
            await asyncio.gather(*link.pumps, return_exceptions=True)
            link.cut()
            self._links.discard(link)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._passing[direction].wait()
                if direction == "to_server":
                    self._listen_in(link, data)
                elif link.doomed:
                    self._num_lost += _COMMITTED in data
                    return  # and with the reply goes the connection
                writer.write(data)
                await writer.drain()

    def _listen_in(self, link: _Link, data: bytes) -> None:
        link.said += data
        if _COMMIT not in data:
            del link.said[:-_REMEMBERED_BYTES]
            return
        said, link.said = bytes(link.said), bytearray()
        if self._loses_reply is not None and self._loses_reply(said):
            self._loses_reply = None
            link.doomed = True
