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
from os import urandom

from exporter.protocol.client_identity import KEY_SIZE, Identity, by_address, keyed_hash
from exporter.protocol.enums import Cause
from exporter.protocol.http1_parser import Request

#: Ends that are kept: about 250 bytes each, 5 MB in all.
MAX_ENDS = 20_000
#: Seconds after which a return is a new visit.
LONGEST = 3600.0


class Reconnects:
    """Remembers ends, recognises returns."""

    def __init__(self, identity: Identity = by_address, limit: int = MAX_ENDS) -> None:
        self._identity = identity
        self._limit = limit
        self._key = urandom(KEY_SIZE)
        self._ends: OrderedDict[int, tuple[float, Cause]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def key(self, request: Request, client: str) -> int:
        """Return the keyed hash of a client's identity; 0 if nothing identifies it."""
        return keyed_hash(self._identity(request, client), self._key)

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
