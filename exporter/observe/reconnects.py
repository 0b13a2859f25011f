"""The time from a session's close to the same client's next handshake.

A client is its keyed hash (:mod:`exporter.protocol.client_identity`); clients behind one address with one user agent
share one, and their delays are then too short rather than too long. The close of a session may be classified after the
client has come back, so both orders are matched. Both tables are bounded: the oldest entry goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from exporter.protocol.classify import Ending
from exporter.protocol.enums import Cause
from exporter.protocol.messages import Opened
from exporter.protocol.record import SessionRecord

#: Closes that are kept: about 250 bytes each, 5 MB in all.
MAX_CLOSES = 20_000
#: Openings that are kept for closes which are not classified yet.
MAX_OPENINGS = 20_000
#: Seconds after which a handshake is a new client, not a reconnect.
LONGEST = 3600.0

#: Takes the route of the new handshake, the cause of the last close and the seconds between the two.
OnReturn = Callable[[int, Cause, float], None]
T = TypeVar("T")


class Reconnects:
    """Match closes with the handshakes that follow them.

    :param returned: called once for each client that came back.
    """

    def __init__(self, returned: OnReturn) -> None:
        self._returned = returned
        self._closes: OrderedDict[int, tuple[float, Cause]] = OrderedDict()
        self._openings: OrderedDict[int, tuple[float, int]] = OrderedDict()

    def opened_batch(self, batch: Sequence[Opened]) -> None:
        """Note handshakes; an identity of 0 is no client."""
        for opened in batch:
            identity, at = opened.identity, opened.opened_at
            close = self._closes.get(identity)
            if close is not None and close[0] <= at:
                del self._closes[identity]
                self._report(opened.route, close, at)
            elif identity:
                _keep(self._openings, identity, (at, opened.route), MAX_OPENINGS)

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Note the close of a session; an identity of 0 is no client."""
        identity, at = record.identity, record.closed_at
        opening = self._openings.get(identity)
        if opening is not None and opening[0] >= at:
            del self._openings[identity]
            self._report(opening[1], (at, ending.cause), opening[0])
        elif identity:
            _keep(self._closes, identity, (at, ending.cause), MAX_CLOSES)

    def _report(self, route: int, close: tuple[float, Cause], at: float) -> None:
        if (delay := at - close[0]) <= LONGEST:
            self._returned(route, close[1], delay)


def _keep(table: OrderedDict[int, T], key: int, value: T, limit: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)
