"""Panels about sessions, handshakes, frames, pings and stalls."""

from __future__ import annotations

from exporter.observe.catalogue import (
    ACTIVE,
    CONNECT_ERRORS,
    FRAMES,
    HANDSHAKE_DURATION,
    HANDSHAKES,
    LARGEST_MESSAGE,
    PAYLOAD,
    PING_RTT,
    STALL_DURATION,
    STALLED,
    UNOBSERVED,
)
from exporter.protocol.enums import PEERS as TWO_PEERS
from exporter.protocol.enums import Peer
from grafana.source import panels
from grafana.source.colours import BLUE, GREEN, GREY, ORANGE, PEERS, RED, SLATE, YELLOW
from grafana.source.config import Config
from grafana.source.links import Runbook
from grafana.source.panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    PER_MINUTE,
    PER_SECOND,
    REQUESTS,
    SECONDS,
    SHARE,
    Panel,
    Query,
    Words,
)
from grafana.source.queries import Not, by, in_range, per_second, quantile, series, share, that_happened

ACCEPTED = "101"
#: Statuses that are the app's or the sidecar's failure, as a matcher of alternatives.
FAILED = "500|502|503|504"

#: Refusals of clients' mistakes are paler than failures of the app.
STATUSES = {
    "400": "#FFE27A", "401": "#E36FA8", "403": "#C2417F", "404": YELLOW, "426": "#B877D9", "429": "#B5A642",
    "500": RED, "502": "#A3152A", "503": ORANGE, "504": "#C4581A", "aborted": GREY,
}  # fmt: skip

_P50_P99 = {
    "p50": {Peer.SERVER: PEERS[Peer.SERVER], Peer.CLIENT: PEERS[Peer.CLIENT]},
    "p99": {Peer.SERVER: ORANGE, Peer.CLIENT: YELLOW},
}


def _quantiles_by(label: str, legend: str) -> dict[str, str]:
    """Return the colours of the legends ``PEER p50`` and ``PEER p99``."""
    return {
        f"{legend.replace('{{' + label + '}}', peer)} {name}": colour
        for name, colours in _P50_P99.items()
        for peer, colour in colours.items()
    }


def active() -> Panel:
    """Build open sessions by route."""
    return panels.time_series(
        Words(
            "Active sessions",
            "Open WebSocket connections by route. A cliff is a wave of closes; a cliff without a climb afterwards is "
            "clients that cannot or will not return.",
            Runbook.RECONNECT_STORM,
        ),
        COUNT,
        Query(by(("route",), series(ACTIVE)), "{{route}}"),
        calcs=("lastNotNull", "min", "max"),
    )


def active_now() -> Panel:
    """Build the number of open sessions."""
    return panels.number(
        Words("Active now", "WebSocket connections that are open now.", Runbook.RECONNECT_STORM),
        COUNT,
        Query(by((), series(ACTIVE)), "active"),
        panels.neutral_steps(SLATE),
        sparkline=True,
    )


def handshakes() -> Panel:
    """Build accepted and refused handshakes."""
    return panels.time_series(
        Words(
            "Handshakes",
            "Opening handshakes per second, accepted (101) and not. A peak right after a wave of closes is all clients "
            "returning at once.",
            Runbook.RECONNECT_STORM,
        ),
        REQUESTS,
        Query(per_second((), series(HANDSHAKES, status=ACCEPTED)), "accepted"),
        Query(per_second((), series(HANDSHAKES, status=Not((ACCEPTED,)))), "not accepted"),
        colours={"accepted": GREEN, "not accepted": ORANGE},
    )


def handshake_failures() -> Panel:
    """Build handshakes that were not accepted, by status."""
    return panels.time_series(
        Words(
            "Handshakes not accepted, by status",
            "Answers other than 101, by HTTP status: 401 and 403 are credentials, 404 a wrong path, 502 and 503 an app "
            "that cannot be reached or a limit, aborted no answer at all.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        PER_MINUTE,
        Query(that_happened(("status",), series(HANDSHAKES, status=Not((ACCEPTED,)))), "{{status}}"),
        colours=STATUSES,
        stacked=True,
    )


def handshake_failed_share(config: Config) -> Panel:
    """Build the share of handshakes that the app or the sidecar failed."""
    return panels.time_series(
        Words(
            "Share of failed handshakes",
            "Handshakes answered with 500, 502, 503 or 504 among all. The dashed line is the alert's "
            f"{config.handshake_failures:g} %.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        SHARE,
        Query(share(series(HANDSHAKES, status=FAILED), series(HANDSHAKES)), "failed"),
        colours={"failed": RED},
        objective=config.handshake_failures / 100,
    )


def handshake_total() -> Panel:
    """Build the number of handshakes that were not accepted."""
    return panels.number(
        Words(
            "Handshakes not accepted",
            "Handshakes in the time range with an answer other than 101, or none.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        COUNT,
        Query(in_range((), series(HANDSHAKES, status=Not((ACCEPTED,)))), "not accepted", instant=True),
        panels.warning_steps(),
    )


def handshake_duration() -> Panel:
    """Build median and tail of the handshake's duration."""
    return panels.time_series(
        Words(
            "Handshake duration",
            "Time from the upgrade request to the head of its answer: the app's time to let a client in.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        SECONDS,
        Query(quantile(0.5, HANDSHAKE_DURATION), "p50"),
        Query(quantile(0.99, HANDSHAKE_DURATION), "p99"),
        colours={"p50": BLUE, "p99": ORANGE},
    )


def frames() -> Panel:
    """Build frames by sender and opcode."""
    return panels.time_series(
        Words(
            "Frames",
            "Frames per second by sender and opcode. Pings that stop, or messages of one side only, precede closes.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        PER_SECOND,
        Query(that_happened(("sender", "opcode"), series(FRAMES), per_second), "{{opcode}} from {{sender}}"),
        colours={
            f"{name} from {peer}": colour
            for name, pair in _FRAME_COLOURS.items()
            for peer, colour in zip((Peer.SERVER, Peer.CLIENT), pair, strict=True)
        },
    )


_FRAME_COLOURS = {
    "text": ("#9673B9", "#8AB8FF"),
    "binary": ("#705DA0", "#5794F2"),
    "close": (RED, "#FF7383"),
    "ping": ("#B5A642", YELLOW),
    "pong": ("#56A64B", "#A8D8A0"),
}


def payload() -> Panel:
    """Build payload bytes by sender."""
    return panels.time_series(
        Words(
            "Payload",
            "Payload bytes per second by sender; control frames count, headers do not.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        BYTES_PER_SECOND,
        Query(per_second(("sender",), series(PAYLOAD)), "from {{sender}}"),
        colours={f"from {peer}": colour for peer, colour in PEERS.items()},
    )


def largest_message() -> Panel:
    """Build median and tail of the largest message of a session."""
    return panels.time_series(
        Words(
            "Largest message of a session",
            "Size of each session's largest message, by sender, as sessions end. Compare p99 with the receiver's limit "
            "before 1009 (Message Too Big) appears.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        BYTES,
        Query(quantile(0.5, LARGEST_MESSAGE, ("sender",)), "from {{sender}} p50"),
        Query(quantile(0.99, LARGEST_MESSAGE, ("sender",)), "from {{sender}} p99"),
        colours=_quantiles_by("sender", "from {{sender}}"),
    )


def ping_rtt() -> Panel:
    """Build median and tail of pings' round trips by sender."""
    return panels.time_series(
        Words(
            "Ping round trip",
            "Time from a ping to its pong. The app's pings measure the way to the clients and back; the clients' pings "
            "measure the app alone: a rise is an app whose event loop is blocked, and precedes missed pings.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        SECONDS,
        Query(quantile(0.5, PING_RTT, ("sender",)), "pings of {{sender}} p50"),
        Query(quantile(0.99, PING_RTT, ("sender",)), "pings of {{sender}} p99"),
        colours=_quantiles_by("sender", "pings of {{sender}}"),
    )


def stalled() -> Panel:
    """Build connections that stall now, by peer."""
    return panels.time_series(
        Words(
            "Stalled connections",
            "Connections with data waiting for this peer above the high-water mark for a second or more. Client: a "
            "slow network or a page that does not read. Server: an app that does not keep up.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        COUNT,
        Query(by(("peer",), series(STALLED)), "waiting for {{peer}}"),
        colours={f"waiting for {peer}": PEERS[peer] for peer in TWO_PEERS},
        calcs=("lastNotNull", "max"),
    )


def stall_duration() -> Panel:
    """Build median and tail of stalls, by peer."""
    return panels.time_series(
        Words(
            "Stall duration",
            "Duration of stalls that ended, by the peer that did not read. Many servers drop a client that stalls for "
            "long: a 1006 with cause slow-client.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        SECONDS,
        Query(quantile(0.5, STALL_DURATION, ("peer",)), "{{peer}} p50"),
        Query(quantile(0.99, STALL_DURATION, ("peer",)), "{{peer}} p99"),
        colours=_quantiles_by("peer", "{{peer}}"),
    )


def unobserved() -> Panel:
    """Build unobserved connections by reason."""
    return panels.time_series(
        Words(
            "Unobserved connections",
            "Connections that are forwarded but not parsed, by reason; their closes are not explained. tls: terminate "
            "TLS ahead of the sidecar. internal: a defect of the sidecar; its log has the trace.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        PER_MINUTE,
        Query(that_happened(("reason",), series(UNOBSERVED)), "{{reason}}"),
        stacked=True,
    )


def connect_errors() -> Panel:
    """Build failed connections to the app by reason."""
    return panels.time_series(
        Words(
            "Failed connections to the app",
            "Failed connections to the app, by reason. refused: the app does not listen. resources: the sidecar is out "
            "of file descriptors, memory or ports.",
            Runbook.APP_DOWN,
        ),
        PER_MINUTE,
        Query(that_happened(("reason",), series(CONNECT_ERRORS)), "{{reason}}"),
        stacked=True,
    )
