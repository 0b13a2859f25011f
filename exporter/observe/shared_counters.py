"""The cells that the relays and the observer count in, read at each scrape as one collector.

A relay that is restarted gets another block, so a family's value is the sum over all blocks. Every label set that is
known in advance is there from the start at 0; any other appears when it is first counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from time import monotonic_ns, time

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
    STATUSES,
    HistogramCells,
    ObserverLayout,
    RelayLayout,
    RouteCells,
)
from exporter.protocol.enums import PEERS, Cause, Peer

#: A label set of the closed counter beside its route: code, cause, initiator.
LabelSet = tuple[str, Cause, Peer]
#: Handshake statuses that stand for a class; their series appear when they are first counted.
_STATUS_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})


class SharedCounters(Collector):
    """Count closes in the observer's block and sum everything for a scrape.

    :param routes: the names of the routes, in the order of their cells.
    :param layout: of a relay's block.
    :param relays: every relay's block, those of lost relays included.
    :param closes_layout: of the observer's block.
    :param closes: the observer's block.
    :param known: the label sets of closes that start at 0.
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
        self._closes_layout = closes_layout
        self._closes = closes
        self._known = frozenset(known)
        self._exemplars: dict[tuple[int, LabelSet], Exemplar] = {}

    def count_close(self, route: int, labels: LabelSet, trace_id: str = "") -> None:
        """Count one close. Raises KeyError for a code that is no label value."""
        self._closes[self._closes_layout.closed(route, *labels)] += 1
        if trace_id:
            self._exemplars[route, labels] = Exemplar({"trace_id": trace_id}, 1.0, time())

    def active(self) -> int:
        """Return the number of open sessions."""
        return sum(self._sum(cells.active) for _, cells in self._by_route())

    def stalled(self) -> int:
        """Return the number of peers that do not read their data."""
        return sum(self._sum(cells.stalled[peer]) for _, cells in self._by_route() for peer in PEERS)

    def refused(self) -> int:
        """Return the number of handshakes that were answered with another status than 101, or not at all."""
        return sum(
            self._sum(cells.handshakes + place)
            for _, cells in self._by_route()
            for place, status in enumerate(STATUSES)
            if status != "101"
        )

    def closed(self) -> Counter[LabelSet]:
        """Return the number of closes by code, cause and initiator, over all routes."""
        closed: Counter[LabelSet] = Counter()
        for route in range(len(self.routes)):
            closed.update(self._closed_of(route))
        return closed

    def closed_by_route(self, route: int) -> int:
        """Return the number of closes of one route, those included whose records the observer could not take."""
        return self._closed_of(route).total()

    def opened_by_route(self, route: int) -> int:
        """Return the number of sessions of one route that were ever opened."""
        return self._sum(self._layout.routes[route].opened)

    def active_by_route(self, route: int) -> int:
        """Return the number of open sessions of one route."""
        return self._sum(self._layout.routes[route].active)

    def is_draining(self) -> bool:
        """Return whether a drain is in progress or done."""
        return any(cells[self._layout.drain_phase] for cells in self._relays)

    def drain_sessions(self) -> int:
        """Return the number of sessions that a drain still has to close."""
        return self._sum(self._layout.drain_sessions)

    def drain_seconds(self) -> float:
        """Return the seconds until the last deadline of a drain; 0 without one."""
        last = max((cells[self._layout.drain_deadline] for cells in self._relays), default=0)
        return max(0, last - monotonic_ns()) / NANOSECONDS if self.is_draining() else 0.0

    def collect(self) -> Iterator[Family]:
        """Yield every family that is counted in cells."""
        layout = self._layout
        yield self._handshakes()
        yield self._histograms(catalogue.HANDSHAKE_DURATION, lambda cells: {(): cells.handshake_duration})
        yield self._values(catalogue.ACTIVE, lambda cells: {(): cells.active})
        yield self._closed_family()
        yield self._values(
            catalogue.FRAMES,
            lambda cells: {
                (peer, opcode): cells.frames[peer] + place for peer in PEERS for place, opcode in enumerate(OPCODES)
            },
        )
        yield self._values(catalogue.PAYLOAD, lambda cells: {(peer,): cells.payload[peer] for peer in PEERS})
        yield self._histograms(catalogue.PING_RTT, lambda cells: {(peer,): cells.ping_rtt[peer] for peer in PEERS})
        yield self._values(catalogue.STALLED, lambda cells: {(peer,): cells.stalled[peer] for peer in PEERS})
        yield self._histograms(
            catalogue.STALL_DURATION, lambda cells: {(peer,): cells.stall_duration[peer] for peer in PEERS}
        )
        yield self._plain(catalogue.UNOBSERVED, {(reason,): cell for reason, cell in layout.unobserved.items()})
        yield self._plain(catalogue.CONNECT_ERRORS, {(error,): cell for error, cell in layout.connect_errors.items()})
        yield self._plain(catalogue.ACCEPT_PAUSES, {(): layout.accept_pauses})
        yield self._plain(catalogue.TLS_ERRORS, {(): layout.tls_errors})
        restarts = _family(catalogue.RELAY_RESTARTS)
        restarts.add_metric((), self._closes[self._closes_layout.relay_restarts])
        yield restarts
        turns = _histogram_family(catalogue.LOOP_TURN)
        self._add_histogram(turns, (), layout.loop_turns)
        yield turns
        for metric, value in (
            (catalogue.DRAINING, float(self.is_draining())),
            (catalogue.DRAIN_SESSIONS, float(self.drain_sessions())),
            (catalogue.DRAIN_SECONDS, self.drain_seconds()),
        ):
            yield GaugeMetricFamily(metric.name, metric.help, value=value)

    def _sum(self, cell: int) -> int:
        return sum(cells[cell] for cells in self._relays)

    def _by_route(self) -> Iterator[tuple[str, RouteCells]]:
        return zip(self.routes, self._layout.routes, strict=False)

    def _handshakes(self) -> Family:
        family = _family(catalogue.HANDSHAKES)
        for route, cells in self._by_route():
            for place, status in enumerate(STATUSES):
                count = self._sum(cells.handshakes + place)
                if count or status not in _STATUS_CLASSES:
                    family.add_metric((route, status), count)
        return family

    def _closed_of(self, route: int) -> Counter[LabelSet]:
        """Return the closes of one route that were counted."""
        label_sets = self._closes_layout.label_sets
        first = route * len(label_sets)
        counts = self._closes[first : first + len(label_sets)].tolist()
        closed = Counter({labels: count for labels, count in zip(label_sets, counts, strict=True) if count})
        dropped = self._layout.routes[route].dropped
        for place, peer in enumerate(Peer):
            if count := self._sum(dropped + place):
                closed[UNKNOWN, Cause.UNCLASSIFIED, peer] += count
        return closed

    def _closed_family(self) -> Family:
        family = _family(catalogue.CLOSED)
        for route, name in enumerate(self.routes):
            closed = self._closed_of(route)
            for labels in sorted(self._known.union(closed)):
                family.add_sample(
                    catalogue.CLOSED.name,
                    dict(zip(catalogue.CLOSED.labels, (name, *labels), strict=True)),
                    closed[labels],
                    exemplar=self._exemplars.get((route, labels)),
                )
        return family

    def _values(self, metric: Metric, cells_of: Callable[[RouteCells], dict[tuple[str, ...], int]]) -> Family:
        """Return a family with, for each route, the label values and cells that ``cells_of`` returns."""
        family = _family(metric)
        for route, cells in self._by_route():
            for labels, cell in cells_of(cells).items():
                family.add_metric((route, *labels), self._sum(cell))
        return family

    def _plain(self, metric: Metric, cells: dict[tuple[str, ...], int]) -> Family:
        family = _family(metric)
        for labels, cell in cells.items():
            family.add_metric(labels, self._sum(cell))
        return family

    def _histograms(
        self, metric: Metric, cells_of: Callable[[RouteCells], dict[tuple[str, ...], HistogramCells]]
    ) -> Family:
        family = _histogram_family(metric)
        for route, cells in self._by_route():
            for labels, histogram in cells_of(cells).items():
                self._add_histogram(family, (route, *labels), histogram)
        return family

    def _add_histogram(self, family: HistogramMetricFamily, labels: Sequence[str], histogram: HistogramCells) -> None:
        *counts, total = (self._sum(histogram.start + place) for place in range(histogram.size))
        bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total / NANOSECONDS)


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def _histogram_family(metric: Metric) -> HistogramMetricFamily:
    return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
