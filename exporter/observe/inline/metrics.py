"""The metrics of one sidecar, in a registry of their own: each that :mod:`exporter.observe.catalogue` lists, once.

Frames and payload bytes are not counted through the metrics library: scanners add to plain lists (a Tally a route and
sender), and a collector reads these when somebody scrapes. That costs the traffic
nothing and is as live as a counter.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.observe.inline.lean import Counter, Gauge, Histogram
from exporter.observe.inline.numbers import Buckets, Value
from exporter.observe.inline.tallies import Reading, TallyCollector
from exporter.observe.process_collector import Processes
from exporter.protocol.classify import Ending, rows
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import PEERS, Cause, ConnectError, Peer, Unobserved
from exporter.protocol.frames import FrameCounts, new_frame_counts
from exporter.protocol.session import Session

#: Statuses that a handshake is known to end with; their series start at zero. "aborted" is no answer at all.
HANDSHAKE_STATUSES = ("101", "400", "401", "403", "404", "426", "429", "500", "502", "503", "504", "aborted")

#: Causes after which clients are known to come back in numbers; their series start at zero.
RETURN_CAUSES = (Cause.NORMAL, Cause.GOING_AWAY, Cause.INTERNAL_ERROR, Cause.SERVICE_RESTART, Cause.CONNECTION_LOST,
                 Cause.CONNECTION_RESET, Cause.APP_DOWN, Cause.DRAIN)  # fmt: skip

#: HTTP statuses that keep their number as label value (IANA registry); any other shares a class such as ``5xx``.
_NUMBERED = frozenset({*range(100, 104), *range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 427),
                       428, 429, 431, 451, *range(500, 509), 510, 511})  # fmt: skip


def status_label(status: int) -> str:
    """A handshake's status as a bounded label value."""
    return str(status) if status in _NUMBERED else f"{status // 100}xx"


@dataclass(frozen=True, slots=True)
class RouteSeries:
    """What each session of one route touches. It is looked up once: a look-up of a series costs many increments."""

    route: str
    tallies: tuple[FrameCounts, FrameCounts]  # of what clients send, of what servers send
    switched: Value  # handshakes answered with 101
    handshake_duration: Buckets
    active: Value
    lifetime: dict[Peer, Buckets]
    reconnect_delay: dict[Cause, Buckets]  # by the usual causes


class Metrics:
    """Everything that one sidecar counts.

    :param routes: every value that the route label can take.
    :param book: decides which codes have a series of their own.
    :param version: of the sidecar, for ``build_info``.
    :param engine: the name of the engine, for ``build_info``.
    :ivar of: by route, the series that sessions touch.
    """

    def __init__(self, routes: Sequence[str], book: CloseCodeMap, version: str, engine: str) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.tallies: dict[tuple[str, Peer], FrameCounts] = {
            (route, sender): new_frame_counts() for route in routes for sender in PEERS
        }
        self.sessions: set[Session] = set()  # those that are open: each keeps what it counted until it is asked
        self.handshakes = self._counter(catalogue.HANDSHAKES)
        self.handshake_duration = self._histogram(catalogue.HANDSHAKE_DURATION)
        self.active = self._gauge(catalogue.ACTIVE)
        self._closed = self._counter(catalogue.CLOSED)
        self.lifetime = self._histogram(catalogue.LIFETIME)
        self.incomplete = self._counter(catalogue.INCOMPLETE)
        self.unobserved = self._counter(catalogue.UNOBSERVED)
        self.connect_errors = self._counter(catalogue.CONNECT_ERRORS)
        self.idle_before_drop = self._histogram(catalogue.IDLE_BEFORE_DROP)
        self.ping_rtt = self._histogram(catalogue.PING_RTT)
        self.reconnect_delay = self._histogram(catalogue.RECONNECT_DELAY)
        self.accept_pauses = self._counter(catalogue.ACCEPT_PAUSES)
        self.tls_errors = self._counter(catalogue.TLS_ERRORS)
        self._draining = self._gauge(catalogue.DRAINING)
        self._drain_sessions = self._gauge(catalogue.DRAIN_SESSIONS)
        self._drain_seconds = self._gauge(catalogue.DRAIN_SECONDS)
        self._gauge(catalogue.BUILD).labels(version, platform.python_version(), engine).set(1)
        self.registry.register(TallyCollector(self.tallies))
        self._lines_dropped: Callable[[], int] = int
        self.registry.register(Reading(catalogue.LINES_DROPPED, lambda: self._lines_dropped()))
        self.registry.register(Processes())
        self._endings: dict[tuple[str, str, str, str], Value] = {}
        self._start_at_zero(routes, book)
        self.of = {route: self._series(route) for route in routes}

    def _series(self, route: str) -> RouteSeries:
        return RouteSeries(
            route=route,
            tallies=(self.tallies[route, Peer.CLIENT], self.tallies[route, Peer.SERVER]),
            switched=self.handshakes.labels(route, "101").number,
            handshake_duration=self.handshake_duration.labels(route).spread,
            active=self.active.labels(route).number,
            lifetime={peer: self.lifetime.labels(route, peer).spread for peer in Peer},
            reconnect_delay={cause: self.reconnect_delay.labels(route, cause).spread for cause in RETURN_CAUSES},
        )

    def flush_counts(self) -> Iterator[None]:
        """Bring the counters of frames and bytes up to date, an open session a step; run through before a scrape."""
        for session in tuple(self.sessions):
            session.flush_counts()
            yield

    def _start_at_zero(self, routes: Sequence[str], book: CloseCodeMap) -> None:
        """A series that first appears at 1 has no increase: what can be told in advance starts at 0.

        So do those of :meth:`_series`.
        """
        for route in routes:
            for status in HANDSHAKE_STATUSES:
                self.handshakes.labels(route, status)
            for code, cause, initiator in rows(book):
                self._ending(route, code, cause, initiator)
            for peer in PEERS:
                self.idle_before_drop.labels(route, peer)
                self.ping_rtt.labels(route, peer)
            for peer in Peer:
                self.incomplete.labels(route, peer)
        for reason in Unobserved:
            self.unobserved.labels(reason)
        for error in ConnectError:
            self.connect_errors.labels(error)

    def _ending(self, route: str, code: str, cause: str, initiator: str) -> Value:
        """The number of such endings. A rare pairing, such as 1002 with a keepalive text, is not there from the start;
        these are bounded all the same."""
        key = (route, code, cause, initiator)
        number = self._endings.get(key)
        if number is None:
            number = self._endings[key] = self._closed.labels(*key).number
        return number

    def ended(self, route: str, ending: Ending, seconds: float, trace_id: str = "") -> None:
        """Count one ending, after ``seconds`` of lifetime; a ``trace_id`` becomes its exemplar."""
        self._ending(route, ending.code, ending.cause, ending.initiator).step(trace_id)
        self.of[route].lifetime[ending.initiator].observe(seconds, trace_id)
        if ending.close_unanswered:
            self.incomplete.labels(route, ending.initiator).inc()

    def returned(self, route: str, cause: Cause, seconds: float) -> None:
        """Count one client that came back, ``seconds`` after its session had ended for ``cause``."""
        delays = self.of[route].reconnect_delay.get(cause)
        (delays or self.reconnect_delay.labels(route, cause).spread).observe(seconds)

    def endings(self) -> dict[tuple[str, str, str, str], int]:
        """Endings since the start by (route, code, cause, initiator), those that happened only."""
        return {key: count for key, number in self._endings.items() if (count := int(number.get()))}

    def watch_drain(self, is_on: Callable[[], bool], sessions: Callable[[], int], seconds: Callable[[], float]) -> None:
        """Read the drain's gauges from these functions at every scrape."""
        self._draining.set_function(lambda: float(is_on()))
        self._drain_sessions.set_function(sessions)
        self._drain_seconds.set_function(seconds)

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Read the number of dropped log lines from this function at every scrape."""
        self._lines_dropped = dropped

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets)
