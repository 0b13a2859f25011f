"""The PROXY protocol header, version 2: tells an app that asks for it who its client is, ahead of the client's bytes.

Behind a sidecar every connection comes from loopback. An app (or its server) that understands the PROXY protocol gets
the client's address and the one it connected to in a binary header of 16 to 52 bytes; see "The PROXY protocol", section
2.2, by HAProxy's author. It is sent only with ``--proxy-protocol``: an app that does not expect it would take it for a
broken request.
"""

from __future__ import annotations

import ipaddress
import struct

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_LOCAL = 0x20
_VERSION_PROXY = 0x21
_TCP4, _TCP6, _UNSPEC = 0x11, 0x21, 0x00


def proxy_header(source: object, destination: object) -> bytes:
    """Return the header for a client at ``source`` that connected to ``destination``, addresses as of a socket.

    Where the addresses are not two of TCP, the header says that nothing is known (LOCAL).
    """
    if not (isinstance(source, tuple) and isinstance(destination, tuple)):
        return _SIGNATURE + struct.pack("!BBH", _VERSION_LOCAL, _UNSPEC, 0)
    here, there = _unmapped(destination[0]), _unmapped(source[0])
    if here.version != there.version:
        return _SIGNATURE + struct.pack("!BBH", _VERSION_LOCAL, _UNSPEC, 0)
    body = there.packed + here.packed + struct.pack("!HH", source[1], destination[1])
    family = _TCP4 if there.version == 4 else _TCP6
    return _SIGNATURE + struct.pack("!BBH", _VERSION_PROXY, family, len(body)) + body


def _unmapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address, as IPv4 where IPv6 only wraps it (``::ffff:192.0.2.1``), without a zone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
