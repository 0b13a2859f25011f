"""The lines of /metrics in one format, and what of them is kept from one scrape to the next.

How it works
============
Most series have not changed since the last scrape. What neighbours said is kept together with what it was made from
(:class:`exporter.admin.inside.Cells`), and is said again if that is the same. If not, names and labels are still the
same, and most exemplars: what the library made of them is kept as well, and only values are written anew.

Metrics of other kinds and collectors of our own are asked at every scrape. Of theirs, a sample that is the very object
that it was has not changed.

All that is kept was made by the library's encoder, a line at a time, in steps that are small enough for a scrape to let
the traffic go first in between. What belongs to one series is read in one step, however many it takes to encode it: a
histogram's buckets, count and sum add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from exporter.admin import inside
from exporter.admin.inside import Cells, Series

#: Samples that are encoded in one step: by the library, the first time, 0.02 to 0.05 ms each; a tenth of it later.
PIECE = 2
#: Series that are kept together, and read anew together if one of them has changed; a histogram is kept by itself.
NEIGHBOURS = 16


class Lines:
    """One format, and what is kept in it.

    :param accept: the ``Accept`` header that asks for it.
    """

    def __init__(self, accept: str) -> None:
        self._encode, self.content_type = choose_encoder(accept)
        self._ending = self._encode(CollectorRegistry())  # what says that this was all; OpenMetrics does
        self._metrics: dict[Collector, _Metric] = {}
        self._families: dict[str, _Family] = {}

    def say(self, registry: CollectorRegistry) -> Iterator[bytes]:
        """All that the registry says, a small step at a time."""
        for collector in inside.collectors(registry):
            series = inside.series_of(collector)
            if series is None:
                for family in collector.collect():
                    yield from self._family(family).say(family.samples)
            else:
                yield from self._metric(collector).say(series)
        yield self._ending

    def _metric(self, metric: Collector) -> _Metric:
        kept = self._metrics.get(metric)
        if kept is None:
            (family,) = metric.describe()  # type: ignore[attr-defined]  # of those that have series
            kept = self._metrics[metric] = _Metric(self._encoder(family), alone=isinstance(metric, Histogram))
        return kept

    def _family(self, family: Family) -> _Family:
        kept = self._families.get(family.name)
        if kept is None:
            kept = self._families[family.name] = _Family(self._encoder(family))
        return kept

    def _encoder(self, family: Family) -> _Encoder:
        def text(samples: list[Sample]) -> str:
            only = copy(family)
            only.samples = samples
            return self._encode(_One(only)).removesuffix(self._ending).decode()

        return _Encoder(text)


class _Encoder:
    """The library's, for one metric."""

    def __init__(self, text: Callable[[list[Sample]], str]) -> None:
        self._text = text
        self.head = text([])  # what is said of a metric before its samples

    def line(self, sample: Sample) -> str:
        """The line of one sample."""
        return self._text([sample]).removeprefix(self.head)

    def start(self, sample: Sample) -> str:
        """What of it comes before the value: names and labels."""
        return self.line(sample._replace(value=0.0, timestamp=None, exemplar=None)).removesuffix("0.0\n")


class _Family:
    """A metric that somebody else keeps."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._head = encoder.head.encode()
        self._lines: list[tuple[Sample, bytes]] = []
        self._starts: dict[tuple[str, ...], str] = {}

    def say(self, samples: Iterable[Sample]) -> Iterator[bytes]:
        """The head, then the samples, which are read as they are taken."""
        yield self._head
        at = 0
        taken = iter(samples)
        while piece := list(islice(taken, PIECE)):
            said = [self._line(at, sample) for at, sample in enumerate(piece, at)]
            at += len(piece)
            yield b"".join(said)

    def _line(self, at: int, sample: Sample) -> bytes:
        if at < len(self._lines) and self._lines[at][0] is sample:
            return self._lines[at][1]
        line = self._made(sample).encode()
        self._lines[at : at + 1] = [(sample, line)]
        return line

    def _made(self, sample: Sample) -> str:
        if sample[3:] != (None, None, None):  # something follows the value
            return self._encoder.line(sample)
        key = (sample.name, *sample.labels, *sample.labels.values())
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = self._encoder.start(sample)
        return f"{start}{floatToGoString(sample.value)}\n"  # type: ignore[no-untyped-call]


class _Metric:
    """One of the library's metrics."""

    def __init__(self, encoder: _Encoder, alone: bool) -> None:
        self._encoder = encoder
        self._head = encoder.head.encode()
        self._size = 1 if alone else NEIGHBOURS
        self._runs: dict[int, _Run] = {}  # by the place of the first of them

    def say(self, series: tuple[Series, ...]) -> Iterator[bytes]:
        """The head, then what the series say, each read when it is its turn."""
        yield self._head
        for place in range(0, len(series), self._size):
            neighbours = series[place : place + self._size]
            run = self._runs.get(place)
            if run is None or run.series != neighbours:
                run = self._runs[place] = _Run(self._encoder, neighbours)
            yield from run.say()


class _Run:
    """Series that are next to each other, and what they said last."""

    __slots__ = ("_cells", "_encoder", "_starts", "_tails", "_text", "series")

    def __init__(self, encoder: _Encoder, series: tuple[Series, ...]) -> None:
        self.series = series
        self._encoder = encoder
        self._cells = Cells(series)
        self._text = b""
        self._starts: list[str] = []  # what comes before the values, a line each
        self._tails: dict[int, tuple[Exemplar, str]] = {}  # what comes after some: exemplars, as they were last

    def say(self) -> Iterator[bytes]:
        """The lines of all."""
        if self._cells.unchanged():
            yield self._text
            return
        held = self._cells.look()
        read = [(one, sample) for one in self.series for sample in inside.read(one)]
        pieces = []
        for at in range(0, len(read), PIECE):
            lines = [self._line(place, *found) for place, found in enumerate(read[at : at + PIECE], at)]
            pieces.append("".join(lines).encode())
            yield pieces[-1]
        self._text = b"".join(pieces)
        self._cells.keep(held)

    def _line(self, at: int, series: Series, sample: Sample) -> str:
        if at == len(self._starts):
            self._starts.append(self._encoder.start(inside.whole(series, sample)))
        line = f"{self._starts[at]}{floatToGoString(sample.value)}"  # type: ignore[no-untyped-call]
        if sample.exemplar is None:
            return f"{line}\n"
        exemplar, tail = self._tails.get(at, (None, ""))
        if exemplar is not sample.exemplar:
            tail = self._encoder.line(inside.whole(series, sample)).removeprefix(line)
            self._tails[at] = sample.exemplar, tail
        return line + tail


class _One(Collector):
    """A registry, to an encoder, that holds one metric."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family
