"""The metrics of one sidecar, in a registry of their own: counters that relays share, and those of closes.

High-rate counters are cells in shared memory (:mod:`exporter.observe.shared_counters`); metrics of closed sessions are
prometheus-client's own. :mod:`exporter.observe.catalogue` lists both.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.observe.process_collector import Processes
from exporter.observe.recent_closes import idle_seconds
from exporter.observe.shared_counters import SharedCounters
from exporter.protocol.classify import Ending
from exporter.protocol.close_codes import ABNORMAL, NO_STATUS
from exporter.protocol.enums import PEERS, Cause, Peer
from exporter.protocol.record import SessionRecord

#: Causes after which clients are known to come back in numbers; their series start at 0.
RETURN_CAUSES = (Cause.NORMAL, Cause.GOING_AWAY, Cause.INTERNAL_ERROR, Cause.SERVICE_RESTART, Cause.CONNECTION_LOST,
                 Cause.CONNECTION_RESET, Cause.DROPPED_ON_MESSAGE, Cause.APP_DOWN, Cause.SHUTDOWN,
                 Cause.DRAIN)  # fmt: skip
#: Codes with which an app may end a failed handler as if nothing were wrong.
SUSPECT_CODES = ("1000", NO_STATUS)


@dataclass(frozen=True, slots=True)
class RouteMetrics:
    """The children of one route, by the label that they have beside it."""

    lifetime: dict[Peer, Histogram]
    incomplete: dict[Peer, Counter]
    idle_before_drop: dict[Peer, Histogram]
    largest_message: dict[Peer, Histogram]
    suspect: dict[str, Counter]
    reconnect_delay: dict[Cause, Histogram]


class Metrics:
    """Count closes and expose everything.

    :param shared: the relays' counters.
    :param version: of the sidecar, for ``build_info``.
    :param engine: ``python`` or ``compiled``, for ``build_info``.
    :param supervisor: the process whose children make up the sidecar, for ``process_*``; None is this one alone.
    """

    def __init__(self, shared: SharedCounters, version: str, engine: str, supervisor: int | None = None) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.shared = shared
        self.registry.register(shared)
        self._lifetime = self._histogram(catalogue.LIFETIME)
        self._incomplete = self._counter(catalogue.INCOMPLETE)
        self._idle_before_drop = self._histogram(catalogue.IDLE_BEFORE_DROP)
        self._reconnect_delay = self._histogram(catalogue.RECONNECT_DELAY)
        self._suspect = self._counter(catalogue.SUSPECT_CLOSES)
        self._largest_message = self._histogram(catalogue.LARGEST_MESSAGE)
        self._lines_suppressed = self._counter(catalogue.LINES_SUPPRESSED)
        self._lines_dropped = self._counter(catalogue.LINES_DROPPED)
        self._build = Gauge(*_arguments(catalogue.BUILD), registry=self.registry)
        self._build.labels(version, platform.python_version(), engine).set(1)
        self.registry.register(Processes(supervisor))
        # Bound once: finding a child by its labels takes longer than counting.
        self._routes = [self._start_at_zero(route) for route in shared.routes]

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Count one close."""
        initiator = ending.initiator
        self.shared.count_close(record.route, (ending.code, ending.cause, initiator), record.trace_id)
        route = self._routes[record.route]
        exemplar = {"trace_id": record.trace_id} if record.trace_id else None
        route.lifetime[initiator].observe(max(0.0, record.closed_at - record.opened_at), exemplar)
        if ending.close_unanswered:
            route.incomplete[initiator].inc()
        if ending.code == ABNORMAL and initiator is not Peer.PROXY:
            route.idle_before_drop[initiator].observe(idle_seconds(record))
        if record.client.largest_message:
            route.largest_message[Peer.CLIENT].observe(record.client.largest_message)
        if record.server.largest_message:
            route.largest_message[Peer.SERVER].observe(record.server.largest_message)
        if ending.suspect:
            route.suspect[ending.code].inc()

    def returned(self, route: int, cause: Cause, seconds: float) -> None:
        """Count one client that came back ``seconds`` after its session had closed with ``cause``."""
        delays = self._routes[route].reconnect_delay
        if (delay := delays.get(cause)) is None:
            delay = delays[cause] = self._reconnect_delay.labels(self.shared.routes[route], cause)
        delay.observe(seconds)

    def lines_suppressed(self, lines: int) -> None:
        """Count log lines that were over the rate limit."""
        self._lines_suppressed.inc(lines)

    def lines_dropped(self, lines: int) -> None:
        """Count log lines that could not be written."""
        self._lines_dropped.inc(lines)

    def _start_at_zero(self, route: str) -> RouteMetrics:
        """Create the series that are known in advance: one that first appears at 1 has no increase."""
        return RouteMetrics(
            {peer: self._lifetime.labels(route, peer) for peer in Peer},
            {peer: self._incomplete.labels(route, peer) for peer in Peer},
            {peer: self._idle_before_drop.labels(route, peer) for peer in PEERS},
            {peer: self._largest_message.labels(route, peer) for peer in PEERS},
            {code: self._suspect.labels(route, code) for code in SUSPECT_CODES},
            {cause: self._reconnect_delay.labels(route, cause) for cause in RETURN_CAUSES},
        )

    def _counter(self, metric: Metric) -> Counter:
        return Counter(*_arguments(metric), registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(*_arguments(metric), registry=self.registry, buckets=metric.buckets)


def _arguments(metric: Metric) -> tuple[str, str, tuple[str, ...]]:
    return metric.name, metric.help, metric.labels
