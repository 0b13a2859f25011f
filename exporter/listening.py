"""Opens listening sockets, one set for each process that accepts from them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any

from exporter.address import Address

#: Clients that the kernel may hold for a relay that is busy; Linux cuts it to net.core.somaxconn.
BACKLOG = 4096


class CannotListen(Exception):
    """A port cannot be listened on; the message names the flag."""

    def __init__(self, flag: str, address: Address, error: OSError) -> None:
        reason = f"port {address.port} is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        super().__init__(f"{flag} {address}: {reason}")


def open_listeners(flag: str, address: Address, count: int = 1) -> list[list[socket.socket]]:
    """Open ``count`` sets of listening sockets for one address; the kernel spreads clients over the sets.

    An empty host is every interface, IPv4 and IPv6 apart. Port 0 is any free port, the same for all. Raises
    CannotListen.
    """
    sets: list[list[socket.socket]] = []
    port = address.port
    try:
        found = socket.getaddrinfo(address.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        if count > 1 and port:  # SO_REUSEPORT would share the port with another process of the same user
            close_all(_bound(found, port, shared=False))
        for _ in range(count):
            sets.append(_bound(found, port, shared=count > 1))
            port = sets[0][0].getsockname()[1]
        for sock in (sock for opened in sets for sock in opened):
            sock.listen(BACKLOG)
    except OSError as error:
        for opened in sets:
            close_all(opened)
        raise CannotListen(flag, address, error) from error
    return sets


def _bound(found: Sequence[Any], port: int, shared: bool) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, target in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                continue  # a family that this kernel does not have
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((target[0], port, *target[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                opened.pop().close()  # a family that is switched off here
                continue
            port = sock.getsockname()[1]
            sock.setblocking(False)
    except OSError:
        close_all(opened)
        raise
    if not opened:
        raise OSError("the name has no address")
    return opened


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close every socket."""
    for sock in sockets:
        sock.close()
