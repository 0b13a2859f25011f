"""The cells that the relays and the observer count in, read at each scrape as one collector.

A relay that is restarted gets another block, so a family's value is the sum over all blocks. Every label set that is
known in advance is there from the start at 0; any other appears when it is first counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import monotonic_ns
from types import MappingProxyType
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.protocol.close_codes import UNKNOWN
from exporter.protocol.counters import (
    NANOSECONDS,
    OPCODES,
    SLOTS_PER_RELAY,
    STATUSES,
    HistogramCells,
    ObserverLayout,
    RelayLayout,
    RouteCells,
)
from exporter.protocol.enums import PEERS, Cause, Peer

#: A label set of the closed counter beside its route: code, cause, initiator.
LabelSet = tuple[str, Cause, Peer]
#: The place of the status of an opened session.
_SWITCHED = STATUSES.index("101")
#: Causes after which clients are known to come back in numbers; their series start at 0.
RETURN_CAUSES = (Cause.NORMAL, Cause.GOING_AWAY, Cause.INTERNAL_ERROR, Cause.SERVICE_RESTART, Cause.CONNECTION_LOST,
                 Cause.CONNECTION_RESET, Cause.DROPPED_ON_MESSAGE, Cause.APP_DOWN, Cause.SHUTDOWN,
                 Cause.DRAIN)  # fmt: skip
#: Handshake statuses that stand for a class; their series appear when they are first counted.
_STATUS_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})


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
        layout: RelayLayout,
        relays: Sequence[memoryview],
        closes_layout: ObserverLayout,
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
            for place in range(len(STATUSES))
            if place != _SWITCHED
        )

    def closed(self) -> Counter[LabelSet]:
        """Return the number of closes by code, cause and initiator, over all routes."""
        cells = self._snapshot()
        closed: Counter[LabelSet] = Counter()
        for route in range(len(self.routes)):
            closed.update(cells.closed(route))
        return closed

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
        return max(0, last - monotonic_ns()) / NANOSECONDS if self.is_draining() else 0.0

    def collect(self) -> Iterator[Family]:
        """Yield every family that is counted in cells, all from one snapshot."""
        cells = self._snapshot()
        yield self._handshakes(cells)
        yield self._histograms(cells, catalogue.HANDSHAKE_DURATION, lambda at: {(): at.handshake_duration})
        active = _family(catalogue.ACTIVE)
        for route, name in enumerate(self.routes):
            active.add_metric((name,), cells.active(route))
        yield active
        yield self._closed_family(cells)
        yield from self._closes_histograms(cells)
        yield self._values(
            cells,
            catalogue.FRAMES,
            lambda at: {
                (peer, opcode): at.frames[peer] + place for peer in PEERS for place, opcode in enumerate(OPCODES)
            },
        )
        yield self._values(cells, catalogue.PAYLOAD, lambda at: {(peer,): at.payload[peer] for peer in PEERS})
        yield self._histograms(cells, catalogue.PING_RTT, lambda at: {(peer,): at.ping_rtt[peer] for peer in PEERS})
        yield self._values(cells, catalogue.STALLED, lambda at: {(peer,): at.stalled[peer] for peer in PEERS})
        yield self._histograms(
            cells, catalogue.STALL_DURATION, lambda at: {(peer,): at.stall_duration[peer] for peer in PEERS}
        )
        layout = self._layout
        for metric, places in (
            (catalogue.UNOBSERVED, {(str(reason),): cell for reason, cell in layout.unobserved.items()}),
            (catalogue.CONNECT_ERRORS, {(str(error),): cell for error, cell in layout.connect_errors.items()}),
            (catalogue.ACCEPT_PAUSES, {(): layout.accept_pauses}),
            (catalogue.TLS_ERRORS, {(): layout.tls_errors}),
        ):
            family = _family(metric)
            for labels, cell in places.items():
                family.add_metric(labels, cells.sum(cell))
            yield family
        restarts = _family(catalogue.RELAY_RESTARTS)
        restarts.add_metric((), cells.closes[self.closes_layout.relay_restarts])
        yield restarts
        turns = _histogram_family(catalogue.LOOP_TURN)
        _add_histogram(turns, (), layout.loop_turns, cells.sum)
        yield turns
        for metric, value in (
            (catalogue.RELAYS, len(self._relays) / SLOTS_PER_RELAY),
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
        return _Snapshot([cells.tolist() for cells in self._relays], closes, self._layout, self.closes_layout)

    def _handshakes(self, cells: _Snapshot) -> Family:
        family = _family(catalogue.HANDSHAKES)
        for route, at in self._by_route():
            for place, status in enumerate(STATUSES):
                count = cells.sum(at.handshakes + place)
                if count or status not in _STATUS_CLASSES:
                    family.add_metric((route, status), count)
        return family

    def _closed_family(self, cells: _Snapshot) -> Family:
        family = _family(catalogue.CLOSED)
        for route, name in enumerate(self.routes):
            closed = cells.closed(route)
            for labels in sorted(self._known.union(closed)):
                family.add_sample(
                    catalogue.CLOSED.name,
                    dict(zip(catalogue.CLOSED.labels, (name, *labels), strict=True)),
                    closed[labels],
                    exemplar=self.exemplars.get((route, labels)),
                )
        return family

    def _values(
        self, cells: _Snapshot, metric: Metric, places: Callable[[RouteCells], dict[tuple[str, ...], int]]
    ) -> Family:
        """Return a family with, for each route, the label values and cells that ``places`` returns."""
        family = _family(metric)
        for route, at in self._by_route():
            for labels, cell in places(at).items():
                family.add_metric((route, *labels), cells.sum(cell))
        return family

    def _histograms(
        self, cells: _Snapshot, metric: Metric, places: Callable[[RouteCells], dict[tuple[str, ...], HistogramCells]]
    ) -> Family:
        family = _histogram_family(metric)
        for route, at in self._by_route():
            for labels, histogram in places(at).items():
                _add_histogram(family, (route, *labels), histogram, cells.sum)
        return family

    def _closes_histograms(self, cells: _Snapshot) -> Iterator[Family]:
        value = cells.closes.__getitem__
        lifetime, idle, largest, delay = (
            _histogram_family(metric)
            for metric in (
                catalogue.LIFETIME, catalogue.IDLE_BEFORE_DROP, catalogue.LARGEST_MESSAGE, catalogue.RECONNECT_DELAY,
            )
        )  # fmt: skip
        for route, at in zip(self.routes, self.closes_layout.routes, strict=False):
            for peer, histogram in at.lifetime.items():
                _add_histogram(lifetime, (route, peer), histogram, value, self.lifetime_exemplars)
            for peer, histogram in at.idle_before_drop.items():
                _add_histogram(idle, (route, peer), histogram, value)
            for peer, histogram in at.largest_message.items():
                _add_histogram(largest, (route, peer), histogram, value)
            for cause, histogram in at.reconnect_delay.items():
                if cause in RETURN_CAUSES or any(map(value, range(histogram.start, histogram.start + histogram.size))):
                    _add_histogram(delay, (route, cause), histogram, value)
        yield from (lifetime, idle, largest, delay)

    def _by_route(self) -> Iterator[tuple[str, RouteCells]]:
        return zip(self.routes, self._layout.routes, strict=False)


class _Snapshot:
    """All cells as of one moment."""

    def __init__(
        self, relays: list[list[int]], closes: list[int], layout: RelayLayout, closes_layout: ObserverLayout
    ) -> None:
        self._relays = relays
        self.closes = closes
        self._layout = layout
        self._label_sets = closes_layout.label_sets

    def sum(self, cell: int) -> int:
        """Return the value of a cell, over all relays."""
        return sum(cells[cell] for cells in self._relays)

    def active(self, route: int) -> int:
        """Return the sessions that opened and have not been counted as closed."""
        opened = self.sum(self._layout.routes[route].handshakes + _SWITCHED)
        return max(0, opened - self.closed(route).total())

    def closed(self, route: int) -> Counter[LabelSet]:
        """Return the closes of one route that were counted, records that the observer could not take included."""
        first = route * len(self._label_sets)
        counts = self.closes[first : first + len(self._label_sets)]
        closed = Counter({labels: count for labels, count in zip(self._label_sets, counts, strict=True) if count})
        dropped = self._layout.routes[route].dropped
        for place, peer in enumerate(Peer):
            if count := self.sum(dropped + place):
                closed[UNKNOWN, Cause.UNCLASSIFIED, peer] += count
        return closed


def _add_histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    histogram: HistogramCells,
    value: Callable[[int], int],
    exemplars: Mapping[tuple[Any, ...], Exemplar] = MappingProxyType({}),
) -> None:
    *counts, total = (value(histogram.start + place) for place in range(histogram.size))
    bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
    buckets: list[Any] = [
        (bound, count, exemplars.get((*labels, bucket)))
        for bucket, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True))
    ]
    family.add_metric(labels, buckets, total / histogram.unit)


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def _histogram_family(metric: Metric) -> HistogramMetricFamily:
    return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
