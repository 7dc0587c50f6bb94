"""uvicorn's server, which waits for open answers when it is to stop; those without end are told to end."""

import socket
from collections.abc import Callable

import uvicorn


class Server(uvicorn.Server):
    """``on_shutdown`` is called in the event loop within 0.1 s of SIGTERM or SIGINT, before the waiting."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what has no end of its own, and then as its base does."""
        self._on_shutdown()
        await super().shutdown(sockets)
