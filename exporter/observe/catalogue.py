"""Every metric that the sidecar exposes: name, type, labels, help, buckets. The one place where a name is written.

:mod:`exporter.observe.metrics` and :mod:`exporter.observe.shared_counters` fill them; dashboards, alert rules, the
reference and the tests import them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.protocol import counters


@dataclass(frozen=True, slots=True)
class Metric:
    """Describe one metric. ``buckets`` are upper bounds in the metric's unit."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """Its type, which shows in its name by Prometheus' conventions."""
        if self.buckets:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


HANDSHAKES = Metric(
    "websocket_handshakes_total",
    "Opening handshakes by HTTP status of the answer; 'aborted' without an answer.",
    ("route", "status"),
)
HANDSHAKE_DURATION = Metric(
    "websocket_handshake_duration_seconds",
    "Time from the request to upgrade to the head of its answer.",
    ("route",),
    counters.HANDSHAKE_BUCKETS,
)
ACTIVE = Metric("websocket_connections_active", "Open WebSocket connections.", ("route",))
CLOSED = Metric(
    "websocket_connections_closed_total",
    "Closed WebSocket connections by close code, classified cause and initiator.",
    ("route", "code", "cause", "initiator"),
)
LIFETIME = Metric(
    "websocket_connection_duration_seconds",
    "Lifetime of closed WebSocket connections, from the 101 to the close.",
    ("route", "initiator"),
    counters.LIFETIME_BUCKETS,
)
INCOMPLETE = Metric(
    "websocket_close_handshakes_incomplete_total",
    "Closes with a Close frame that the other peer did not answer before TCP ended.",
    ("route", "initiator"),
)
FRAMES = Metric("websocket_frames_total", "Frames by sender and opcode.", ("route", "sender", "opcode"))
PAYLOAD = Metric(
    "websocket_payload_bytes_total",
    "Payload bytes by sender, with control frames, without headers and masks.",
    ("route", "sender"),
)
UNOBSERVED = Metric(
    "websocket_unobserved_connections_total", "Connections forwarded but no longer parsed, by reason.", ("reason",)
)
CONNECT_ERRORS = Metric(
    "websocket_upstream_connect_errors_total", "Failed connections to the app, by reason.", ("reason",)
)
IDLE_BEFORE_DROP = Metric(
    "websocket_idle_before_drop_seconds",
    "Idle time before closes without a Close frame.",
    ("route", "initiator"),
    counters.IDLE_BUCKETS,
)
PING_RTT = Metric(
    "websocket_ping_rtt_seconds",
    "Time from a peer's ping to its pong, as they pass the sidecar.",
    ("route", "sender"),
    counters.PING_BUCKETS,
)
RECONNECT_DELAY = Metric(
    "websocket_reconnect_delay_seconds",
    "Time from a session's close to the same client's next handshake.",
    ("route", "after_cause"),
    counters.RECONNECT_BUCKETS,
)
SUSPECT_CLOSES = Metric(
    "websocket_suspect_closes_total",
    "Closes 1000 and 1005 by the app within 100 ms of an unanswered message of the client.",
    ("route", "code"),
)
STALLED = Metric(
    "websocket_connections_stalled",
    "Connections with data waiting for this peer above the high-water mark for 1 s or more.",
    ("route", "peer"),
)
STALL_DURATION = Metric(
    "websocket_stall_duration_seconds", "Duration of stalls of 1 s or more.", ("route", "peer"), counters.STALL_BUCKETS
)
LARGEST_MESSAGE = Metric(
    "websocket_largest_message_bytes",
    "Largest message of a session, at its close.",
    ("route", "sender"),
    counters.MESSAGE_BUCKETS,
)
ACCEPT_PAUSES = Metric(
    "websocket_exporter_accept_pauses_total", "Times accepting paused because file descriptors or memory ran out."
)
TLS_ERRORS = Metric("websocket_exporter_tls_errors_total", "Failed TLS connections of clients to the data port.")
RELAYS = Metric("websocket_exporter_relays", "Relay processes, as --workers sets them.")
RELAY_RESTARTS = Metric("websocket_exporter_relay_restarts_total", "Relay processes restarted after they died.")
LOOP_TURN = Metric(
    "websocket_exporter_loop_turn_seconds", "Duration of one event-loop turn of a relay.", (), counters.TURN_BUCKETS
)
LINES_SUPPRESSED = Metric("websocket_exporter_log_lines_suppressed_total", "Log lines and reports over the rate limit.")
LINES_DROPPED = Metric(
    "websocket_exporter_log_lines_dropped_total", "Log lines lost because standard output was blocked, closed or full."
)
DRAINING = Metric("websocket_exporter_draining", "Drain in progress: 1, else 0.")
DRAIN_SESSIONS = Metric(
    "websocket_exporter_drain_sessions_remaining",
    "Sessions that the drain in progress still has to close; 0 without a drain.",
)
DRAIN_SECONDS = Metric(
    "websocket_exporter_drain_seconds_remaining",
    "Seconds until the deadline of the drain in progress; 0 without a drain.",
)
BUILD = Metric(
    "websocket_exporter_build_info",
    "Constant 1, labelled by version, Python version and engine (python or compiled).",
    ("version", "python", "engine"),
)

#: All of them, in the order of the reference.
CATALOGUE = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
