"""Metrics of the design that the sidecar may not expose yet.

A metric that :mod:`exporter.observe.catalogue` has is taken from there. The panels of the others show "no data".
"""

from __future__ import annotations

from exporter.observe.catalogue import CATALOGUE, Kind, Metric


def _metric(name: str, kind: Kind, labels: tuple[str, ...], about: str) -> Metric:
    return next((metric for metric in CATALOGUE if metric.name == name), Metric(name, kind, labels, about))


SUSPECT_CLOSES = _metric(
    "websocket_suspect_closes_total",
    "counter",
    ("route", "code"),
    "Closes 1000 and 1005 by the app right after an unanswered message of the client.",
)
STALLED = _metric(
    "websocket_connections_stalled",
    "gauge",
    ("route", "peer"),
    "Connections with data waiting for this peer above the high-water mark for 1 s or more.",
)
STALL_DURATION = _metric(
    "websocket_stall_duration_seconds",
    "histogram",
    ("route", "peer"),
    "Duration of stalls.",
)
LARGEST_MESSAGE = _metric(
    "websocket_largest_message_bytes",
    "histogram",
    ("route", "sender"),
    "Largest message of a session, at its close.",
)
LOOP_TURN = _metric(
    "websocket_exporter_loop_turn_seconds",
    "histogram",
    (),
    "Duration of one event-loop turn.",
)
RELAY_RESTARTS = _metric(
    "websocket_exporter_relay_restarts_total",
    "counter",
    (),
    "Relay processes restarted after they died.",
)
LINES_SUPPRESSED = _metric(
    "websocket_exporter_log_lines_suppressed_total",
    "counter",
    (),
    "Log lines and reports over the rate limit.",
)

_DESIGNED = (SUSPECT_CLOSES, STALLED, STALL_DURATION, LARGEST_MESSAGE, LOOP_TURN, RELAY_RESTARTS, LINES_SUPPRESSED)

#: Those that the sidecar does not expose yet.
PLANNED = tuple(metric for metric in _DESIGNED if metric not in CATALOGUE)
