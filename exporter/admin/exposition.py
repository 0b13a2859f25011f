"""The exposition of all metrics, made in slices, so that a scrape does not hold up the traffic.

How it works
============
All of us run on one event loop, and the library takes milliseconds to read and encode a few hundred series, many times
that with many routes: time in which no byte is relayed. So open sessions are asked one by one for what they counted,
and the metrics are then read and made into text a few samples at a time; whenever :data:`SLICE` is used up, whatever
waits on the loop goes first.

Most of that time went into what is the same at every scrape, names and labels. What the library once made of them is
kept for each series (:class:`Lines`); from then on only the value is written anew.

When the loop has so much to do that one turn of it takes long, as when all clients of a dead app come back, slices grow
with the turns: else a scrape of a hundred slices would outlast Prometheus' patience just when it is needed most.

What belongs to one series is read in one go: a histogram's buckets, count and sum add up. Two series may be a few
milliseconds apart, as in any process that goes on working while it is scraped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from copy import copy
from functools import lru_cache
from itertools import islice, repeat
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

#: Seconds of encoding after which the traffic goes first.
SLICE = 0.0001
#: Or this part of how long the loop was away for the traffic the last time: nobody who waits that long notices it.
SHARE = 0.1
#: Samples that are read and encoded in one go: under 0.1 ms the first time, a fifth of it later.
PIECE = 4
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
        parts: list[str] = []
        pace = _Pace()
        for _ in settling:
            await pace.keep()
        for family, samples in _families(self._registry):
            parts.append(lines.head(family))
            while piece := list(islice(samples, PIECE)):
                parts += [lines.line(family, prefix, sample) for prefix, sample in piece]
                await pace.keep()
        return "".join((*parts, lines.ending)).encode(), lines.content_type


class Lines:
    """One format, and what it has before the values.

    :param accept: the ``Accept`` header that asks for it.
    """

    def __init__(self, accept: str) -> None:
        self._encode, self.content_type = choose_encoder(accept)
        self.ending = self._encode(CollectorRegistry()).decode()  # what says that this was all; OpenMetrics does
        self._heads: dict[str, str] = {}
        self._starts: dict[tuple[str, ...], str] = {}

    def head(self, family: Family) -> str:
        """What is said of a metric before its samples; it must have none."""
        head = self._heads.get(family.name)
        if head is None:
            head = self._heads[family.name] = self._text(family)
        return head

    def line(self, family: Family, prefix: str, sample: Sample) -> str:
        """The line of one sample, whose name is to follow the prefix."""
        if sample.exemplar is not None or sample.timestamp is not None:  # something follows the value
            return self._line(family, prefix, sample)
        key = (prefix, sample.name, *sample.labels, *sample.labels.values())
        value = f"{floatToGoString(sample.value)}\n"  # type: ignore[no-untyped-call]
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = self._line(family, prefix, sample).removesuffix(value)
        return start + value

    def _line(self, family: Family, prefix: str, sample: Sample) -> str:
        alone = copy(family)
        alone.samples = [sample._replace(name=prefix + sample.name)]
        return self._text(alone).removeprefix(self.head(family))

    def _text(self, family: Family) -> str:
        return self._encode(_One(family)).decode().removesuffix(self.ending)


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


def _families(registry: CollectorRegistry) -> Iterator[tuple[Family, Iterator[tuple[str, Sample]]]]:
    """Every metric without its samples, and these with what goes before their names, read as they are taken."""
    for collector in tuple(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            for family in collector.describe():
                yield family, zip(repeat(family.name), collector._samples())
        else:
            for family in collector.collect():
                empty = copy(family)
                empty.samples = []
                yield empty, zip(repeat(""), family.samples)


class _One(Collector):
    """A registry, to an encoder, that holds one metric."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family
