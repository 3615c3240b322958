"""Free loopback ports for the servers that tests start, which nothing else will take meanwhile."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from itertools import count

# Below the ports that the kernel gives to outgoing connections (32768 on Linux), and by process,
# so that neither a connection nor another run of the tests gets one between the search and its use.
FIRST, MANY, EACH = 20_000, 12_000, 100
_next = count()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; each call gives another one."""
    while True:
        port = FIRST + (os.getpid() * EACH + next(_next)) % MANY
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
