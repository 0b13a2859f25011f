"""Who a client is, as far as a request shows it: a keyed hash, by which a client that comes back is recognised.

The operator chooses the source: the forwarded address and the user agent (default), a cookie, or a query parameter.
The text itself is not kept. The key is made at each start and shared by all processes of one sidecar. Every function
here takes time in proportion to the request's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from mypy_extensions import i64

from exporter.protocol.http1_parser import Request

#: From a request and the host of its TCP connection to the text that identifies the client; empty if nothing does.
Identity = Callable[[Request, str], str]

#: An integer of 62 bits needs no object of its own where this is compiled.
_HASH_BITS: Final[i64] = (1 << 62) - 1
#: Bytes of a hash's key.
KEY_SIZE: Final = 16


def keyed_hash(text: str, key: str) -> int:
    """Return a hash of up to 62 bits of an identity under ``key``, never 0; 0 for an empty text.

    It is SipHash, Python's own for texts (PEP 456), whose second key forked processes share.
    """
    if not text:
        return 0
    found: i64 = hash(key + text)
    return (found & _HASH_BITS) or 1


def identity_source(source: str) -> Identity:
    """Return the function for ``address``, ``cookie:NAME`` or ``query:NAME``. Raises ValueError for another text."""
    kind, _, name = source.partition(":")
    if kind == "cookie" and name:
        return by_cookie(name)
    if kind == "query" and name:
        return by_query(name)
    if source == "address":
        return by_address
    raise ValueError(f"no source of a client's identity: {source}")


def by_address(request: Request, client: str) -> str:
    """Return the first forwarded address, else the connection's, and the user agent."""
    host = client
    if request.forwarded_for:
        host = _without_port(request.forwarded_for.partition(",")[0].strip()) or client
    return f"{host}\n{request.user_agent}"


def by_cookie(name: str) -> Identity:
    """Return a function that returns the value of a cookie as it was sent (RFC 6265, section 4.2.1).

    http.cookies would not do: it finds no cookie at all beside one without a value or with a reserved name.
    """
    pattern = re.compile(rf";[ \t]*+{re.escape(name)}[ \t]*+=([^;]*+)").search

    def identify(request: Request, client: str) -> str:
        found = pattern(";" + request.cookie)
        return found[1].strip() if found is not None else ""

    return identify


def by_query(name: str) -> Identity:
    """Return a function that returns the value of a query parameter, as it was sent."""
    names = "|".join(map(re.escape, dict.fromkeys((name, quote(name, safe="")))))
    pattern = re.compile(rf"&(?:{names})=([^&#]++)").search

    def identify(request: Request, client: str) -> str:
        found = pattern("&" + request.target.partition("?")[2])
        return found[1] if found is not None else ""

    return identify


def _without_port(address: str) -> str:
    """Return the address alone: the port is another at every connection, and some proxies forward it as well."""
    if address[:1] == "[":
        return address[1:].partition("]")[0]
    host, _, rest = address.partition(":")
    return address if ":" in rest else host  # a bare IPv6 address has several colons
