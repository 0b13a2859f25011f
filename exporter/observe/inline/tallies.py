"""Collectors: what is read only when somebody scrapes, from those who count without the metrics library.

Frames and payload bytes are counted by scanners in plain lists (a Tally a route and sender); log lines that were lost
by whoever writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.protocol.enums import Peer
from exporter.protocol.frames import PAYLOAD, FrameCounts, Opcode

OPCODES: dict[int, str] = {opcode: opcode.name.lower() for opcode in Opcode}
RESERVED = "reserved"


class TallyCollector(Collector):
    """Reads the scanners' shared counters, those of one route and sender at a time.

    The samples of a tally that has not changed are the same objects again: whoever encodes them may know them by that.
    """

    def __init__(self, tallies: dict[tuple[str, Peer], FrameCounts]) -> None:
        self._readings = {
            metric: [_OfTally(metric, labels, tally, read) for labels, tally in tallies.items()]
            for metric, read in ((catalogue.FRAMES, _frames), (catalogue.PAYLOAD, _payload))
        }

    def collect(self) -> Iterator[Family]:
        for metric, readings in self._readings.items():
            family = _family(metric)
            family.samples = _WhenTaken(partial(_all_samples, readings))
            yield family


#: What a tally counted: further label values, and the count.
_Counts = Iterator[tuple[tuple[str, ...], int]]


class _OfTally:
    """What one tally says under one metric."""

    def __init__(
        self, metric: Metric, labels: tuple[str, ...], tally: FrameCounts, read: Callable[[FrameCounts], _Counts]
    ) -> None:
        self._metric = metric
        self._labels = labels
        self._tally = tally
        self._read = read
        self._seen: FrameCounts = []
        self._said: list[Sample] = []

    def samples(self) -> list[Sample]:
        """As of now."""
        if self._tally != self._seen:
            piece = _family(self._metric)
            for more, count in self._read(self._tally):
                piece.add_metric((*self._labels, *more), count)
            self._seen, self._said = self._tally.copy(), piece.samples
        return self._said


def _all_samples(readings: Iterable[_OfTally]) -> Iterator[Sample]:
    for reading in readings:
        yield from reading.samples()


def _frames(tally: FrameCounts) -> _Counts:
    for opcode, name in OPCODES.items():
        yield (name,), tally[opcode]
    yield (RESERVED,), sum(tally[opcode] for opcode in range(PAYLOAD) if opcode not in OPCODES)


def _payload(tally: FrameCounts) -> _Counts:
    yield (), tally[PAYLOAD]


class _WhenTaken(list[Sample]):
    """Samples that are made as they are taken, so that a scrape can let the traffic go first in between."""

    def __init__(self, make: Callable[[], Iterator[Sample]]) -> None:
        super().__init__()
        self._make = make

    def __iter__(self) -> Iterator[Sample]:
        return self._make()


class Reading(Collector):
    """A counter without labels that somebody else keeps."""

    def __init__(self, metric: Metric, read: Callable[[], int]) -> None:
        self._metric = metric
        self._read = read

    def collect(self) -> Iterator[Family]:
        family = _family(self._metric)
        family.add_metric((), self._read())
        yield family


def _family(metric: Metric) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
