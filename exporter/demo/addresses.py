"""TCP addresses: written, found free, found taken."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import dataclass

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where somebody listens. An empty host is every interface; IPv6 hosts carry no brackets here."""

    host: str
    port: int

    @property
    def local(self) -> Address:
        """Where a process on this machine reaches it."""
        return Address(_EVERYWHERE.get(self.host, self.host), self.port)

    def claim(self) -> Address:
        """This address, with port 0 made a free port. Nothing is held: it is free now, no more.

        :raises OSError: when nobody could listen here, because it is taken or not ours.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            sock.bind((self.host, self.port))
            return Address(self.host, sock.getsockname()[1])

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
