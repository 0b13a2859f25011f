"""Every metric that the sidecar exposes: name, type, labels, help, buckets. The one place where a name is written.

:mod:`exporter.observe.metrics` makes the metrics from this list; dashboards, alert rules, the README's table and the
tests import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is called and what it tells. ``buckets`` are upper bounds in the metric's unit."""

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

#: Opening handshakes take milliseconds when all is well; the upper end is where clients give up.
HANDSHAKE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Like the lifetimes', but finer about each cut-off: a pile within 2 s of one is somebody's timeout.
IDLE_BUCKETS = (1, 5, 15, 28, 32, 45, 58, 62, 80, 98, 102, 200, 298, 302, 348, 352, 500, 598, 602, 1800, 3598, 3602,
                7198, 7202)  # fmt: skip

#: From a loopback's round trip to where every keepalive has given up.
PING_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)

#: Below half a second nobody has backed off; minutes are a person who came back.
RECONNECT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 60, 120, 300, 900, 3600)

HANDSHAKES = Metric(
    "websocket_handshakes_total",
    "counter",
    ("route", "status"),
    "Opening handshakes by HTTP status of the answer; 'aborted' had none.",
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
    "WebSocket connections that are open now.",
)
CLOSED = Metric(
    "websocket_connections_closed_total",
    "counter",
    ("route", "code", "cause", "initiator"),
    "WebSocket connections that ended, by close code, judged cause and who began the end.",
)
LIFETIME = Metric(
    "websocket_connection_duration_seconds",
    "histogram",
    ("route", "initiator"),
    "Lifetime of WebSocket connections, from the 101 to the end of TCP.",
    LIFETIME_BUCKETS,
)
INCOMPLETE = Metric(
    "websocket_close_handshakes_incomplete_total",
    "counter",
    ("route", "initiator"),
    "Endings where a Close frame was sent and TCP ended before the other peer answered it.",
)
FRAMES = Metric(
    "websocket_frames_total",
    "counter",
    ("route", "sender", "opcode"),
    "Frames seen, by sender and opcode.",
)
PAYLOAD = Metric(
    "websocket_payload_bytes_total",
    "counter",
    ("route", "sender"),
    "Payload bytes seen, control frames included, headers and masks not.",
)
UNOBSERVED = Metric(
    "websocket_unobserved_connections_total",
    "counter",
    ("reason",),
    "Connections that are forwarded but no longer understood.",
)
CONNECT_ERRORS = Metric(
    "websocket_upstream_connect_errors_total",
    "counter",
    ("reason",),
    "Clients' connections for which the app could not be connected to.",
)
IDLE_BEFORE_DROP = Metric(
    "websocket_idle_before_drop_seconds",
    "histogram",
    ("route", "initiator"),
    "Endings without a Close frame: time for which nothing had passed either way.",
    IDLE_BUCKETS,
)
PING_RTT = Metric(
    "websocket_ping_rtt_seconds",
    "histogram",
    ("route", "sender"),
    "Time from a peer's ping to the pong that answers it, as they pass the sidecar.",
    PING_BUCKETS,
)
RECONNECT_DELAY = Metric(
    "websocket_reconnect_delay_seconds",
    "histogram",
    ("route", "after_cause"),
    "Time from a session's end to the same client's next handshake.",
    RECONNECT_BUCKETS,
)
ACCEPT_PAUSES = Metric(
    "websocket_exporter_accept_pauses_total",
    "counter",
    (),
    "Times that accepting clients was paused for want of file descriptors or memory.",
)
TLS_ERRORS = Metric(
    "websocket_exporter_tls_errors_total",
    "counter",
    (),
    "Clients of a data port with TLS whose handshake or records could not be taken.",
)
LINES_DROPPED = Metric(
    "websocket_exporter_log_lines_dropped_total",
    "counter",
    (),
    "Log lines that could not be written: nobody read them fast enough, or the disk was full.",
)
DRAINING = Metric(
    "websocket_exporter_draining",
    "gauge",
    (),
    "1 while sessions are being ended on purpose, else 0.",
)
DRAIN_SESSIONS = Metric(
    "websocket_exporter_drain_sessions_remaining",
    "gauge",
    (),
    "Sessions that a drain has still to wait for; 0 when none is on.",
)
DRAIN_SECONDS = Metric(
    "websocket_exporter_drain_seconds_remaining",
    "gauge",
    (),
    "Seconds until a drain's deadline; 0 when none is on.",
)
BUILD = Metric(
    "websocket_exporter_build_info",
    "gauge",
    ("version", "python", "engine"),
    "Always 1; the labels say what is running. The engine is python, or compiled as in the image.",
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
    ACCEPT_PAUSES,
    TLS_ERRORS,
    LINES_DROPPED,
    DRAINING,
    DRAIN_SESSIONS,
    DRAIN_SECONDS,
    BUILD,
)
