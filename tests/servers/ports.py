"""TCP ports that stay ours while a server is down."""

import random
import socket

#: Below the range that systems take ports of outgoing connections from: nothing else may get the port of
#: a server that is being restarted, and no client can connect to itself.
_RANGE = range(20_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    while True:
        port = random.choice(_RANGE)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
