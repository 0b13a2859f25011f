"""Addresses as a person writes them: ``HOST:PORT``, ``[::1]:PORT``, ``unix:/path``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_LISTEN = "expected [HOST]:PORT, such as :10010 or 127.0.0.1:10010"
_UPSTREAM = "expected HOST:PORT or unix:/path, such as 127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port, or the path of a Unix socket.

    An empty host is every interface. The host of an IPv6 address has no brackets.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else format_host_port(self.host, self.port)

    @property
    def local(self) -> Address:
        """The address at which a process on this machine reaches a listener on this one."""
        return replace(self, host=_LOOPBACK.get(self.host, self.host))


def format_host_port(host: str, port: int) -> str:
    """Return ``192.0.2.7:80`` or ``[2001:db8::1]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_listen(text: str) -> Address:
    """Parse an address to listen on: ``:10010`` is every interface. Raises ValueError."""
    return _parse_host_port(text, _LISTEN, least=0)


def parse_upstream(text: str) -> Address:
    """Parse an address to connect to: ``HOST:PORT`` or ``unix:/path``. Raises ValueError."""
    scheme, separator, _ = text.partition("://")
    if separator:
        raise ValueError(f"leave out {scheme}://; {_UPSTREAM}")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(_UPSTREAM)
        return Address(path=path)
    address = _parse_host_port(text, _UPSTREAM, least=1)
    if not address.host:
        raise ValueError(_UPSTREAM)
    return address


def _parse_host_port(text: str, accepted: str, least: int) -> Address:
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not (port.isascii() and port.isdecimal())
        or not least <= int(port) <= 65535
        or (":" in host and not bracketed)
    ):
        raise ValueError(accepted)
    host = host[1:-1] if bracketed else host
    if re.search(r"[\s/@\[\]]", host) or (host and not all(0 < len(label) < 64 for label in host.split("."))):
        raise ValueError(accepted)
    return Address(host, int(port))
