"""The metrics of one sidecar, in a registry of their own: counters that relays share, and those of closes.

Whatever each session counts in is a cell in shared memory (:mod:`exporter.observe.shared_counters`); rare counters are
prometheus-client's own. :mod:`exporter.observe.catalogue` lists both.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from time import time
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.samples import Exemplar

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.observe.process_collector import Processes
from exporter.observe.recent_closes import idle_seconds
from exporter.observe.shared_counters import SharedCounters
from exporter.protocol.classify import Ending
from exporter.protocol.close_codes import ABNORMAL, NO_STATUS
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.record import SessionRecord

# Looked up once: Python 3.11 takes a detour to an enum's members.
_CLIENT: Final = Peer.CLIENT
_SERVER: Final = Peer.SERVER
_PROXY: Final = Peer.PROXY

#: Codes with which an app may end a failed handler as if nothing were wrong.
SUSPECT_CODES = ("1000", NO_STATUS)


class Metrics:
    """Count closes and expose everything.

    :param shared: the relays' counters.
    :param version: of the sidecar, for ``build_info``.
    :param engine: ``python`` or ``compiled``, for ``build_info``.
    :param supervisor: the process whose children make up the sidecar, for ``process_*``.
    :ivar lines_suppressed: counts log lines that were over the rate limit.
    :ivar lines_dropped: counts log lines that could not be written.
    """

    def __init__(self, shared: SharedCounters, version: str, engine: str, supervisor: int) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.shared = shared
        self.registry.register(shared)
        self._cells, self._layout = shared.closes, shared.closes_layout
        self._incomplete = self._counter(catalogue.INCOMPLETE)
        self._suspect = self._counter(catalogue.SUSPECT_CLOSES)
        self.lines_suppressed: Callable[[int], None] = self._counter(catalogue.LINES_SUPPRESSED).inc
        self.lines_dropped: Callable[[int], None] = self._counter(catalogue.LINES_DROPPED).inc
        build = Gauge(*_arguments(catalogue.BUILD), registry=self.registry)
        build.labels(version, platform.python_version(), engine).set(1)
        self.registry.register(Processes(supervisor))
        for route in shared.routes:  # a series that first appears at 1 has no increase
            for peer in Peer:
                self._incomplete.labels(route, peer)
            for code in SUSPECT_CODES:
                self._suspect.labels(route, code)

    def session_closed(self, record: SessionRecord, ending: Ending) -> None:
        """Count one close."""
        route, initiator = self.shared.routes[record.route], ending.initiator
        at, cells = self._layout.routes[record.route], self._cells
        cells[self._layout.closed(record.route, ending.code, ending.cause, initiator)] += 1
        lifetime = max(0.0, record.closed_at - record.opened_at)
        bucket = at.lifetime[initiator].observe(cells, lifetime)
        if record.trace_id:
            trace, now = {"trace_id": record.trace_id}, time()
            self.shared.exemplars[record.route, (ending.code, ending.cause, initiator)] = Exemplar(trace, 1.0, now)
            self.shared.lifetime_exemplars[route, initiator, bucket] = Exemplar(trace, lifetime, now)
        if record.client.largest_message:
            at.largest_message[_CLIENT].observe(cells, record.client.largest_message)
        if record.server.largest_message:
            at.largest_message[_SERVER].observe(cells, record.server.largest_message)
        if ending.code == ABNORMAL and initiator is not _PROXY:
            at.idle_before_drop[initiator].observe(cells, idle_seconds(record))
        if ending.close_unanswered:
            self._incomplete.labels(route, initiator).inc()
        if ending.suspect:
            self._suspect.labels(route, ending.code).inc()

    def returned(self, route: int, cause: Cause, seconds: float) -> None:
        """Count one client that came back ``seconds`` after its session had closed with ``cause``."""
        self._layout.routes[route].reconnect_delay[cause].observe(self._cells, seconds)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(*_arguments(metric), registry=self.registry)


def _arguments(metric: Metric) -> tuple[str, str, tuple[str, ...]]:
    return metric.name, metric.help, metric.labels
