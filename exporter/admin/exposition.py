"""The exposition of all metrics, made in slices, so that a scrape does not hold up the traffic.

How it works
============
All of us run on one event loop, and the library takes milliseconds to read and encode a few hundred series, many times
that with many routes: time in which no byte is relayed. So open sessions are asked one by one for what they counted,
and the metrics are then read and made into text in small steps (:mod:`exporter.admin.lines`, which also keeps what has
not changed); whenever :data:`SLICE` is used up, whatever waits on the loop goes first.

When the loop has so much to do that one turn of it takes long, as when all clients of a dead app come back, slices grow
with the turns: else a scrape of a hundred slices would outlast Prometheus' patience just when it is needed most.

What belongs to one series is read in one go. Two series may be a few milliseconds apart, as in any process that goes on
working while it is scraped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from time import monotonic

from prometheus_client import CollectorRegistry

from exporter.admin.lines import PIECE, Lines

__all__ = ["FORMATS", "PIECE", "SHARE", "SLICE", "Exposition", "Lines"]

#: Seconds of encoding after which the traffic goes first.
SLICE = 0.0001
#: Or this part of how long the loop was away for the traffic the last time: nobody who waits that long notices it.
SHARE = 0.1
#: Formats of which lines are kept, some 300 bytes a series: Prometheus asks for one, a person who looks for another.
FORMATS = 2


class Exposition:
    """What a registry says at a scrape.

    :param registry: none of its metrics has a ``_created`` series, which the text format would put elsewhere.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lines = lru_cache(maxsize=FORMATS)(Lines)

    async def expose(self, accept: str, settling: Iterable[None] = ()) -> tuple[bytes, str]:
        """The text and its content type, in the format that the ``Accept`` header asks for.

        :param settling: the small steps that bring the values up to date.

        It is, byte by byte, what the library's encoder makes of the whole registry.
        """
        lines = self._lines(accept)
        pace = _Pace()
        for _ in settling:
            if pace.over():
                await pace.rest()
        parts = []
        for part in lines.say(self._registry):
            parts.append(part)
            if pace.over():
                await pace.rest()
        return b"".join(parts), lines.content_type


class _Pace:
    """Lets the traffic go first after every slice."""

    def __init__(self) -> None:
        self._slice = SLICE
        self._began = self._now = monotonic()

    def over(self) -> bool:
        """To be asked after every step: whether the slice is used up."""
        self._now = monotonic()
        return self._now - self._began > self._slice

    async def rest(self) -> None:
        """Return after a turn of the loop, with a new slice."""
        await asyncio.sleep(0)
        self._began = monotonic()
        self._slice = max(SLICE, (self._began - self._now) * SHARE)
