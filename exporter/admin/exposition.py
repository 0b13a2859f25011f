"""The text of /metrics, made in slices, so that no scrape holds up the traffic for longer than one of them.

How it works
============
All of us run on one event loop, and the library takes milliseconds to read and encode a few hundred series, many times
that with many routes: time in which no byte is relayed. So open sessions are asked one by one for what they counted,
and the metrics are then read and made into text a few samples at a time; whenever :data:`SLICE` is used up, whatever
waits on the loop goes first.

When the loop has so much to do that one turn of it takes long, as when all clients of a dead app come back, slices grow
with the turns: else a scrape of a hundred slices would outlast Prometheus' patience just when it is needed most.

What belongs to one series is read in one go: a histogram's buckets, count and sum add up. Two series may be a few
milliseconds apart, as in any process that goes on working while it is scraped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import islice
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

#: Seconds of encoding after which the traffic goes first.
SLICE = 0.0001
#: Or this part of how long the loop was away for the traffic the last time: nobody who waits that long notices it.
SHARE = 0.1
#: Samples that are read and encoded in one go: 0.06 ms as text, 0.09 ms as OpenMetrics.
PIECE = 4


async def expose(registry: CollectorRegistry, accept: str, settling: Iterable[None] = ()) -> tuple[bytes, str]:
    """The exposition and its content type, in the format that the ``Accept`` header asks for.

    :param registry: none of its metrics has a ``_created`` series, which the text format would put elsewhere.
    :param settling: the small steps that bring the values up to date.

    It is, byte by byte, what the library's encoder makes of the whole registry.
    """
    encode, content_type = choose_encoder(accept)
    ending = encode(CollectorRegistry())  # what says that this was all; OpenMetrics does
    parts: list[bytes] = []
    pace = _Pace()
    for _ in settling:
        await pace.keep()
    for family, samples in _families(registry):
        head = encode(_One(family)).removesuffix(ending)
        parts.append(head)
        while piece := list(islice(samples, PIECE)):
            family.samples = piece
            parts.append(encode(_One(family)).removesuffix(ending).removeprefix(head))
            await pace.keep()
    return b"".join((*parts, ending)), content_type


class _Pace:
    """Lets the traffic go first after every slice."""

    def __init__(self) -> None:
        self._slice = SLICE
        self._began = monotonic()

    async def keep(self) -> None:
        """To be called between steps: if the slice is used up, return after a turn of the loop."""
        now = monotonic()
        if now - self._began > self._slice:
            await asyncio.sleep(0)
            self._began = monotonic()
            self._slice = max(SLICE, (self._began - now) * SHARE)


def _families(registry: CollectorRegistry) -> Iterator[tuple[Family, Iterator[Sample]]]:
    """Every metric without its samples, and these, which are read as they are taken."""
    for collector in tuple(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            for family in collector.describe():
                yield family, _named(family.name, collector._samples())
        else:
            for family in collector.collect():
                empty = copy(family)
                empty.samples = []
                yield empty, iter(family.samples)


def _named(metric: str, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Samples with their whole name; the library's own metrics have only the suffix of it there."""
    return (sample._replace(name=metric + sample.name) for sample in samples)


class _One(Collector):
    """A registry, to an encoder, that holds one metric."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family
