"""Do clients come back, and how soon: the time from a session's end to the same client's next handshake.

How it works
============
Who "the same client" is, a network cannot know for certain. We take what the operator names (forwarded address and user
agent by default, or a cookie, or a query parameter), and keep of it only a keyed hash of 64 bits, with a key that is
made anew at each start and never leaves the process. Ends are kept in a bounded, ordered table: when it is full the
oldest is forgotten, and one that is older than :data:`LONGEST` no longer counts as the reason for coming back.

Clients behind one address with one user agent share an identity. Their delays are then too short rather than too long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from os import urandom
from urllib.parse import parse_qs, urlsplit

from exporter.protocol.enums import Cause
from exporter.protocol.http1_parser import Request

#: Ends that are kept: about 250 bytes each, 5 MB in all.
MAX_ENDS = 20_000
#: Seconds after which a return is a new visit.
LONGEST = 3600.0

#: From a request and the address of its TCP connection to what identifies the client; empty if nothing does.
Identity = Callable[[Request, str], str]


def by_address(request: Request, client: str) -> str:
    """The first forwarded address, else the connection's, and the user agent."""
    address = client
    if request.forwarded_for:
        address = request.forwarded_for.partition(",")[0].strip() or client
    return f"{_host(address)}\n{request.user_agent}"


def _host(address: str) -> str:
    """Without its port, which is another at every connection; some proxies forward that as well."""
    if address[:1] == "[":
        return address[1:].partition("]")[0]
    host, _, rest = address.partition(":")
    return address if ":" in rest else host  # a bare IPv6 address has several


def by_cookie(name: str) -> Identity:
    """The value of a cookie, as it was sent (RFC 6265, section 4.2.1).

    Browsers send cookies that http.cookies takes for an error, and then it knows none of them: without a value, say, or
    named ``path``.
    """

    def identify(request: Request, client: str) -> str:
        for pair in request.cookie.split(";"):
            key, _, value = pair.partition("=")
            if key.strip() == name:
                return value.strip()
        return ""

    return identify


def by_query(name: str) -> Identity:
    """The value of a query parameter."""

    def identify(request: Request, client: str) -> str:
        try:
            return parse_qs(urlsplit(request.target).query).get(name, [""])[0]
        except ValueError:
            return ""

    return identify


class Reconnects:
    """Remembers ends, recognises returns."""

    def __init__(self, identity: Identity = by_address, limit: int = MAX_ENDS) -> None:
        self._identity = identity
        self._limit = limit
        self._salt = urandom(16).hex()
        self._ends: OrderedDict[int, tuple[float, Cause]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def key(self, request: Request, client: str) -> int:
        """What is kept of a client's identity; 0 if nothing identifies it.

        The hash of a text is SipHash with a key that Python makes at its start. Where PYTHONHASHSEED gives that key
        away, our salt before the text keeps the secret.
        """
        identity = self._identity(request, client)
        return (hash(self._salt + identity) or 1) if identity else 0

    def ended(self, key: int, cause: Cause, now: float) -> None:
        """A session of this client has ended."""
        if not key:
            return
        ends = self._ends
        ends[key] = (now, cause)
        ends.move_to_end(key)
        if len(ends) > self._limit:
            ends.popitem(last=False)

    def returned(self, key: int, now: float) -> tuple[Cause, float] | None:
        """This client asks for a session. Why its last one ended, and how many seconds ago; None if unknown."""
        end = self._ends.pop(key, None)
        if end is None or now - end[0] > LONGEST:
            return None
        return end[1], max(0.0, now - end[0])
