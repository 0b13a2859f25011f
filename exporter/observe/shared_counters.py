"""The cells that the relays and the observer count in, read at each scrape as one collector.

A relay that is restarted gets another block, so a family's value is the sum over all blocks. Every label set that is
known in advance is there from the start at 0; any other appears when it is first counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import monotonic_ns
from types import MappingProxyType
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.protocol import counters
from exporter.protocol.close_codes import UNKNOWN
from exporter.protocol.enums import PEERS, Cause, Peer

#: A label set of the closed counter beside its route: code, cause, initiator.
LabelSet = tuple[str, Cause, Peer]
#: The place of the status of an opened session.
_SWITCHED = counters.STATUSES.index("101")
#: Causes after which clients are known to come back in numbers; their series start at 0.
RETURN_CAUSES = (Cause.NORMAL, Cause.GOING_AWAY, Cause.INTERNAL_ERROR, Cause.SERVICE_RESTART, Cause.CONNECTION_LOST,
                 Cause.CONNECTION_RESET, Cause.DROPPED_ON_MESSAGE, Cause.APP_DOWN, Cause.SHUTDOWN,
                 Cause.DRAIN)  # fmt: skip
#: Handshake statuses that stand for a class; their series appear when they are first counted.
_STATUS_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})

_Cells = TypeVar("_Cells")
_Label = TypeVar("_Label", bound=str)
_Place = TypeVar("_Place", int, counters.HistogramCells)


class SharedCounters(Collector):
    """Count closes in the observer's block and sum everything for a scrape.

    :ivar exemplars: exemplars of closes, by route and label set.
    :ivar lifetime_exemplars: exemplars of the sessions' durations, by route, initiator and bucket.
    :param routes: the names of the routes, in the order of their cells.
    :param layout: of a relay's block.
    :param relays: every relay's block, those of lost relays included.
    :param closes_layout: of the observer's block.
    :param closes: the observer's block.
    :param known: the label sets of closes that start at 0.

    In every scrape the sessions that opened are those that closed and those that are active: an ended session is active
    until its close is classified.
    """

    def __init__(
        self,
        routes: Sequence[str],
        layout: counters.RelayLayout,
        relays: Sequence[memoryview],
        closes_layout: counters.ObserverLayout,
        closes: memoryview,
        known: Iterable[LabelSet],
    ) -> None:
        self.routes = list(routes)
        self._layout = layout
        self._relays = relays
        self.closes_layout = closes_layout
        self.closes = closes
        self._known = frozenset(known)
        self.exemplars: dict[tuple[int, LabelSet], Exemplar] = {}
        self.lifetime_exemplars: dict[tuple[Any, ...], Exemplar] = {}

    def count_close(self, route: int, labels: LabelSet) -> None:
        """Count one close that has no record. Raises KeyError for a code that is no label value."""
        self.closes[self.closes_layout.closed(route, *labels)] += 1

    def active(self) -> int:
        """Return the number of open sessions."""
        cells = self._snapshot()
        return sum(cells.active(route) for route in range(len(self.routes)))

    def stalled(self) -> int:
        """Return the number of peers that do not read their data."""
        return sum(self._sum(cells.stalled[peer]) for cells in self._layout.routes for peer in PEERS)

    def refused(self) -> int:
        """Return the number of handshakes that were answered with another status than 101, or not at all."""
        return sum(
            self._sum(cells.handshakes + place)
            for cells in self._layout.routes
            for place in range(len(counters.STATUSES))
            if place != _SWITCHED
        )

    def closed(self) -> Counter[LabelSet]:
        """Return the number of closes by code, cause and initiator, over all routes."""
        cells = self._snapshot()
        return sum((cells.closed(route) for route in range(len(self.routes))), Counter())

    def closed_by_route(self, route: int) -> int:
        """Return the number of closes of one route, those included whose records the observer could not take."""
        return self._snapshot().closed(route).total()

    def opened_by_route(self, route: int) -> int:
        """Return the number of sessions of one route that were ever opened."""
        return self._sum(self._layout.routes[route].handshakes + _SWITCHED)

    def active_by_route(self, route: int) -> int:
        """Return the number of sessions of one route that the relays count as open."""
        return self._sum(self._layout.routes[route].active)

    def is_draining(self) -> bool:
        """Return whether a drain is in progress or done."""
        phase = self._layout.drain_phase  # asked for each close: no generator
        for cells in self._relays:  # noqa: SIM110
            if cells[phase]:
                return True
        return False

    def drain_sessions(self) -> int:
        """Return the number of sessions that a drain still has to close."""
        return self._sum(self._layout.drain_sessions)

    def drain_seconds(self) -> float:
        """Return the seconds until the last deadline of a drain; 0 without one."""
        last = max((cells[self._layout.drain_deadline] for cells in self._relays), default=0)
        return max(0, last - monotonic_ns()) / counters.NANOSECONDS if self.is_draining() else 0.0

    def collect(self) -> Iterator[Family]:
        """Yield every family that is counted in cells, all from one snapshot."""
        cells, layout = self._snapshot(), self._layout
        relays, closes = cells.relays, cells.closes
        routes = tuple(zip(self.routes, layout.routes, strict=False))
        ended = tuple(zip(self.routes, self.closes_layout.routes, strict=False))
        statuses = (
            ((route, status), at.handshakes + place)
            for route, at in routes
            for place, status in enumerate(counters.STATUSES)
            if status not in _STATUS_CLASSES or relays[at.handshakes + place]
        )
        yield _values(catalogue.HANDSHAKES, statuses, relays)
        answers = (((route,), at.handshake_duration) for route, at in routes)
        yield _histograms(catalogue.HANDSHAKE_DURATION, answers, relays)
        active = [cells.active(route) for route in range(len(routes))]
        yield _values(catalogue.ACTIVE, (((name,), route) for route, name in enumerate(self.routes)), active)
        yield self._closed_family(cells)
        lifetimes = _by_label(ended, lambda at: at.lifetime)
        yield _histograms(catalogue.LIFETIME, lifetimes, closes, self.lifetime_exemplars)
        yield _histograms(catalogue.IDLE_BEFORE_DROP, _by_label(ended, lambda at: at.idle_before_drop), closes)
        yield _histograms(catalogue.LARGEST_MESSAGE, _by_label(ended, lambda at: at.largest_message), closes)
        delays = (
            (labels, histogram)
            for labels, histogram in _by_label(ended, lambda at: at.reconnect_delay)
            if labels[1] in RETURN_CAUSES or any(closes[histogram.start : histogram.start + histogram.size])
        )
        yield _histograms(catalogue.RECONNECT_DELAY, delays, closes)
        frames = (
            ((route, peer, opcode), at.frames[peer] + place)
            for route, at in routes
            for peer in PEERS
            for place, opcode in enumerate(counters.OPCODES)
        )
        yield _values(catalogue.FRAMES, frames, relays)
        yield _values(catalogue.PAYLOAD, _by_label(routes, lambda at: at.payload), relays)
        yield _histograms(catalogue.PING_RTT, _by_label(routes, lambda at: at.ping_rtt), relays)
        yield _values(catalogue.STALLED, _by_label(routes, lambda at: at.stalled), relays)
        yield _histograms(catalogue.STALL_DURATION, _by_label(routes, lambda at: at.stall_duration), relays)
        yield _values(catalogue.UNOBSERVED, (((why,), cell) for why, cell in layout.unobserved.items()), relays)
        yield _values(catalogue.CONNECT_ERRORS, (((why,), cell) for why, cell in layout.connect_errors.items()), relays)
        yield _values(catalogue.ACCEPT_PAUSES, [((), layout.accept_pauses)], relays)
        yield _values(catalogue.TLS_ERRORS, [((), layout.tls_errors)], relays)
        yield _values(catalogue.RELAY_RESTARTS, [((), self.closes_layout.relay_restarts)], closes)
        yield _histograms(catalogue.LOOP_TURN, [((), layout.loop_turns)], relays)
        for metric, value in (
            (catalogue.RELAYS, len(self._relays) / counters.SLOTS_PER_RELAY),
            (catalogue.DRAINING, float(self.is_draining())),
            (catalogue.DRAIN_SESSIONS, float(self.drain_sessions())),
            (catalogue.DRAIN_SECONDS, self.drain_seconds()),
        ):
            yield GaugeMetricFamily(metric.name, metric.help, value=value)

    def _sum(self, cell: int) -> int:
        return sum(cells[cell] for cells in self._relays)

    def _snapshot(self) -> _Snapshot:
        """Copy all blocks: closes first, so that none is there without its opening."""
        closes = self.closes.tolist()
        relays = [cells.tolist() for cells in self._relays]
        return _Snapshot([*map(sum, zip(*relays, strict=True))], closes, self._layout, self.closes_layout.label_sets)

    def _closed_family(self, cells: _Snapshot) -> Family:
        metric = catalogue.CLOSED
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for route, name in enumerate(self.routes):
            closed = cells.closed(route)
            for labels in sorted(self._known.union(closed)):
                values = dict(zip(metric.labels, (name, *labels), strict=True))
                exemplar = self.exemplars.get((route, labels))
                family.add_sample(metric.name, values, closed[labels], exemplar=exemplar)
        return family


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All cells as of one moment: the sums over all relays, and those of closes."""

    relays: list[int]
    closes: list[int]
    layout: counters.RelayLayout
    label_sets: Sequence[LabelSet]

    def active(self, route: int) -> int:
        """Return the sessions that opened and have not been counted as closed."""
        return max(0, self.relays[self.layout.routes[route].handshakes + _SWITCHED] - self.closed(route).total())

    def closed(self, route: int) -> Counter[LabelSet]:
        """Return the closes of one route that were counted, records that the observer could not take included."""
        first = route * len(self.label_sets)
        counts = self.closes[first : first + len(self.label_sets)]
        closed = Counter({labels: count for labels, count in zip(self.label_sets, counts, strict=True) if count})
        for place, peer in enumerate(Peer, self.layout.routes[route].dropped):
            if count := self.relays[place]:
                closed[UNKNOWN, Cause.UNCLASSIFIED, peer] += count
        return closed


def _by_label(
    routes: Iterable[tuple[str, _Cells]], places: Callable[[_Cells], Mapping[_Label, _Place]]
) -> Iterator[tuple[counters.Labels, _Place]]:
    """Yield the result of ``places`` for each route, with the route's name and the label value."""
    return (((route, label), place) for route, at in routes for label, place in places(at).items())


def _values(metric: Metric, places: Iterable[tuple[counters.Labels, int]], cells: Sequence[int]) -> Family:
    """Return a family of cells, each with its label values."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, place in places:
        family.add_metric(labels, cells[place])
    return family


def _histograms(
    metric: Metric,
    places: Iterable[tuple[counters.Labels, counters.HistogramCells]],
    cells: Sequence[int],
    exemplars: Mapping[tuple[Any, ...], Exemplar] = MappingProxyType({}),
) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in places:
        *counts, total = cells[histogram.start : histogram.start + histogram.size]
        bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
        buckets: list[Any] = [
            (bound, count, exemplars.get((*labels, bucket)))
            for bucket, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True))
        ]
        family.add_metric(labels, buckets, total / histogram.unit)
    return family
