"""Every metric that the sidecar exposes: name, type, labels, help, buckets. The one place where a name is written.

:mod:`exporter.observe.metrics` and :mod:`exporter.observe.shared_counters` fill them; dashboards, alert rules, the
reference and the tests import them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.protocol.counters import HANDSHAKE_BUCKETS, PING_BUCKETS, STALL_BUCKETS, TURN_BUCKETS

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Describe one metric. ``buckets`` are upper bounds in the metric's unit."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


#: Bounds on both sides of the times at which proxies cut connections (30 s, 60 s nginx and ALB, 100 s Cloudflare,
#: 300 s, 350 s NLB, 600 s, 1 h, 2 h), so that a pile at one of them stands alone in its bucket.
LIFETIME_BUCKETS = (
    0.1, 1, 5, 10, 25, 35, 55, 65, 95, 105, 180, 290, 310, 340, 360, 590, 610, 1800, 3580, 3620, 7170, 7230,
    21600, 86400,
)  # fmt: skip

#: Like the lifetimes', but finer about each cut-off: a pile within 2 s of one is a timeout.
IDLE_BUCKETS = (1, 5, 15, 28, 32, 45, 58, 62, 80, 98, 102, 200, 298, 302, 348, 352, 500, 598, 602, 1800, 3598, 3602,
                7198, 7202)  # fmt: skip

#: Below half a second no client has backed off; minutes are a person who came back.
RECONNECT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 60, 120, 300, 900, 3600)

#: Powers of 4 from 64 B to 16 MiB: libraries' limits (64 KiB, 1 MiB, 4 MiB, 16 MiB) are bounds.
MESSAGE_BUCKETS = tuple(float(64 * 4**power) for power in range(10))

HANDSHAKES = Metric(
    "websocket_handshakes_total",
    "counter",
    ("route", "status"),
    "Opening handshakes by HTTP status of the answer; 'aborted' without an answer.",
)
HANDSHAKE_DURATION = Metric(
    "websocket_handshake_duration_seconds",
    "histogram",
    ("route",),
    "Time from the request to upgrade to the head of its answer.",
    HANDSHAKE_BUCKETS,
)
ACTIVE = Metric(
    "websocket_connections_active",
    "gauge",
    ("route",),
    "Open WebSocket connections.",
)
CLOSED = Metric(
    "websocket_connections_closed_total",
    "counter",
    ("route", "code", "cause", "initiator"),
    "Closed WebSocket connections by close code, classified cause and initiator.",
)
LIFETIME = Metric(
    "websocket_connection_duration_seconds",
    "histogram",
    ("route", "initiator"),
    "Lifetime of closed WebSocket connections, from the 101 to the close.",
    LIFETIME_BUCKETS,
)
INCOMPLETE = Metric(
    "websocket_close_handshakes_incomplete_total",
    "counter",
    ("route", "initiator"),
    "Closes with a Close frame that the other peer did not answer before TCP ended.",
)
FRAMES = Metric(
    "websocket_frames_total",
    "counter",
    ("route", "sender", "opcode"),
    "Frames by sender and opcode.",
)
PAYLOAD = Metric(
    "websocket_payload_bytes_total",
    "counter",
    ("route", "sender"),
    "Payload bytes by sender, with control frames, without headers and masks.",
)
UNOBSERVED = Metric(
    "websocket_unobserved_connections_total",
    "counter",
    ("reason",),
    "Connections forwarded but no longer parsed, by reason.",
)
CONNECT_ERRORS = Metric(
    "websocket_upstream_connect_errors_total",
    "counter",
    ("reason",),
    "Failed connections to the app, by reason.",
)
IDLE_BEFORE_DROP = Metric(
    "websocket_idle_before_drop_seconds",
    "histogram",
    ("route", "initiator"),
    "Idle time before closes without a Close frame.",
    IDLE_BUCKETS,
)
PING_RTT = Metric(
    "websocket_ping_rtt_seconds",
    "histogram",
    ("route", "sender"),
    "Time from a peer's ping to its pong, as they pass the sidecar.",
    PING_BUCKETS,
)
RECONNECT_DELAY = Metric(
    "websocket_reconnect_delay_seconds",
    "histogram",
    ("route", "after_cause"),
    "Time from a session's close to the same client's next handshake.",
    RECONNECT_BUCKETS,
)
ACCEPT_PAUSES = Metric(
    "websocket_exporter_accept_pauses_total",
    "counter",
    (),
    "Times accepting paused because file descriptors or memory ran out.",
)
TLS_ERRORS = Metric(
    "websocket_exporter_tls_errors_total",
    "counter",
    (),
    "Failed TLS connections of clients to the data port.",
)
LINES_DROPPED = Metric(
    "websocket_exporter_log_lines_dropped_total",
    "counter",
    (),
    "Log lines lost because standard output was blocked, closed or full.",
)
SUSPECT_CLOSES = Metric(
    "websocket_suspect_closes_total",
    "counter",
    ("route", "code"),
    "Closes 1000 and 1005 by the app within 100 ms of an unanswered message of the client.",
)
STALLED = Metric(
    "websocket_connections_stalled",
    "gauge",
    ("route", "peer"),
    "Connections with data waiting for this peer above the high-water mark for 1 s or more.",
)
STALL_DURATION = Metric(
    "websocket_stall_duration_seconds",
    "histogram",
    ("route", "peer"),
    "Duration of stalls of 1 s or more.",
    STALL_BUCKETS,
)
LARGEST_MESSAGE = Metric(
    "websocket_largest_message_bytes",
    "histogram",
    ("route", "sender"),
    "Largest message of a session, at its close.",
    MESSAGE_BUCKETS,
)
RELAYS = Metric(
    "websocket_exporter_relays",
    "gauge",
    (),
    "Relay processes, as --workers sets them.",
)
RELAY_RESTARTS = Metric(
    "websocket_exporter_relay_restarts_total",
    "counter",
    (),
    "Relay processes restarted after they died.",
)
LOOP_TURN = Metric(
    "websocket_exporter_loop_turn_seconds",
    "histogram",
    (),
    "Duration of one event-loop turn of a relay.",
    TURN_BUCKETS,
)
LINES_SUPPRESSED = Metric(
    "websocket_exporter_log_lines_suppressed_total",
    "counter",
    (),
    "Log lines and reports over the rate limit.",
)
DRAINING = Metric(
    "websocket_exporter_draining",
    "gauge",
    (),
    "Drain in progress: 1, else 0.",
)
DRAIN_SESSIONS = Metric(
    "websocket_exporter_drain_sessions_remaining",
    "gauge",
    (),
    "Sessions that the drain in progress still has to close; 0 without a drain.",
)
DRAIN_SECONDS = Metric(
    "websocket_exporter_drain_seconds_remaining",
    "gauge",
    (),
    "Seconds until the deadline of the drain in progress; 0 without a drain.",
)
BUILD = Metric(
    "websocket_exporter_build_info",
    "gauge",
    ("version", "python", "engine"),
    "Constant 1, labelled by version, Python version and engine (python or compiled).",
)

CATALOGUE: tuple[Metric, ...] = (
    HANDSHAKES,
    HANDSHAKE_DURATION,
    ACTIVE,
    CLOSED,
    LIFETIME,
    INCOMPLETE,
    FRAMES,
    PAYLOAD,
    UNOBSERVED,
    CONNECT_ERRORS,
    IDLE_BEFORE_DROP,
    PING_RTT,
    RECONNECT_DELAY,
    SUSPECT_CLOSES,
    STALLED,
    STALL_DURATION,
    LARGEST_MESSAGE,
    ACCEPT_PAUSES,
    TLS_ERRORS,
    RELAYS,
    RELAY_RESTARTS,
    LOOP_TURN,
    LINES_SUPPRESSED,
    LINES_DROPPED,
    DRAINING,
    DRAIN_SESSIONS,
    DRAIN_SECONDS,
    BUILD,
)
