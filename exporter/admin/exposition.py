"""The text of /metrics, made in slices, so that no scrape holds up the traffic for longer than one of them.

How it works
============
All of us run on one event loop, and the library's encoder takes milliseconds for a few hundred series: time in which no
byte is relayed. So open sessions are asked one by one for what they counted, the values are read at one moment, for
sums that add up, and then made into text one metric at a time; whenever :data:`SLICE` is used up, whatever waits on the
loop goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

#: Seconds of encoding after which the traffic goes first. Yielding more often makes the scrape wait for many busy turns
#: of the loop; less often makes the traffic wait for the scrape.
SLICE = 0.0002


async def expose(registry: CollectorRegistry, accept: str, settling: Iterable[None] = ()) -> tuple[bytes, str]:
    """The exposition and its content type, in the format that the ``Accept`` header asks for.

    :param settling: the small steps that bring the values up to date.

    It is, byte by byte, what the library's encoder makes of the whole registry.
    """
    encode, content_type = choose_encoder(accept)
    ending = encode(CollectorRegistry())  # what says that this was all; OpenMetrics does
    parts: list[bytes] = []
    began = monotonic()
    for _ in settling:
        if monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = monotonic()
    for family in list(registry.collect()):
        if monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = monotonic()
        parts.append(encode(_One(family)).removesuffix(ending))
    return b"".join((*parts, ending)), content_type


class _One(Collector):
    """A registry, to an encoder, that holds one metric."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family
