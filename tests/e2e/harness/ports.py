"""Loopback ports that nobody else takes."""

from __future__ import annotations

import random
import socket
from pathlib import Path

# Below Linux's range of ephemeral ports (32768-60999): while an app is down, no outgoing connection of
# anybody can be given its port by the kernel.
FIRST, LAST = 20000, 32000

_given: set[int] = set()

LISTEN = "0A"  # the state's number in /proc/net/tcp


def free_port() -> int:
    """Return a loopback TCP port that can be bound right now, never the same twice."""
    while True:
        port = random.randint(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def listening(port: int) -> bool:
    """Tell whether somebody listens on the port, without connecting to it: a test may count connections."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == LISTEN:
                return True
    return False
