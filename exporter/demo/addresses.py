"""Ports that are free to listen on."""

from __future__ import annotations

import socket
from contextlib import closing

from exporter.address import Address


def claim(address: Address) -> Address:
    """Return ``address`` with a free port in place of port 0. Raises OSError if nobody could listen there.

    Nothing is held: the port is free now, no more.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        sock.bind((address.host, address.port))
        return Address(address.host, sock.getsockname()[1])
