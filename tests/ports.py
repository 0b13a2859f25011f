"""Loopback ports that nobody else takes."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

# Below Linux's range of ephemeral ports (32768-60999): while an app is down, no outgoing connection of
# anybody can be given its port by the kernel.
FIRST, LAST = 20000, 32000


def share(worker: str, workers: int) -> range:
    """The ports of one of pytest-xdist's workers ("gw0" and on): no other is given the port of an app that is down."""
    size = (LAST - FIRST) // workers
    first = FIRST + int(worker.removeprefix("gw")) * size
    return range(first, first + size)


OURS = share(os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))

_given: set[int] = set()

LISTEN = "0A"  # the state's number in /proc/net/tcp


def free_port() -> int:
    """Return a loopback TCP port that can be bound right now, never the same twice."""
    while True:
        port = random.choice(OURS)
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
