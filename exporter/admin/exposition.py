"""The exposition of all metrics, made in small steps, so that a scrape does not hold up the traffic.

How it works
============
The library takes milliseconds to read and encode a few hundred series, many times that with many routes: time in which
no byte is relayed. So open sessions are asked one by one for what they counted, and the metrics are then read and made
into text a few at a time (:mod:`exporter.admin.lines`, which also keeps what has not changed), with the traffic first
in between (:mod:`exporter.admin.cooperative`).

What belongs to one series is read in one go. Two series may be a few milliseconds apart, as in any process that goes on
working while it is scraped.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import CollectorRegistry

from exporter.admin.cooperative import run_cooperatively
from exporter.admin.lines import Lines

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
        await run_cooperatively(settling)
        return b"".join(await run_cooperatively(lines.say(self._registry))), lines.content_type
