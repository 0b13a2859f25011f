"""Panels about what is not an ending: sessions, handshakes, frames, pings, and the sidecar itself."""

from __future__ import annotations

from exporter.observe.catalogue import (
    ACTIVE,
    BUILD,
    CONNECT_ERRORS,
    DRAIN_SECONDS,
    DRAIN_SESSIONS,
    DRAINING,
    FRAMES,
    HANDSHAKE_DURATION,
    HANDSHAKES,
    PAYLOAD,
    PING_RTT,
    UNOBSERVED,
)
from exporter.observe.tallies import OPCODES
from exporter.protocol.enums import Peer
from exporter.protocol.frames import Opcode
from grafana.source import panels
from grafana.source.colours import BLUE, GREEN, GREY, ORANGE, PEERS, RED, SLATE, YELLOW
from grafana.source.links import Runbook
from grafana.source.panels import (
    BYTES,
    BYTES_PER_SECOND,
    CORES,
    COUNT,
    DATE,
    NONE,
    PER_MINUTE,
    PER_SECOND,
    SECONDS,
    Json,
    Query,
    Words,
    override,
)
from grafana.source.promql import CPU, MAX_FDS, OPEN_FDS, RESIDENT, START_TIME
from grafana.source.queries import (
    Not,
    by,
    in_range,
    of_sidecars,
    per_minute,
    per_second,
    quantile,
    rate,
    series,
    that_happened,
)

ACCEPTED = "101"

#: Clients' mistakes are paler than the server's failures.
STATUSES = {
    "400": "#FFE27A", "401": "#E36FA8", "403": "#C2417F", "404": YELLOW, "426": "#B877D9", "429": "#B5A642",
    "500": RED, "502": "#A3152A", "503": ORANGE, "504": "#C4581A", "aborted": GREY,
}  # fmt: skip


def active() -> Json:
    """Open sessions."""
    return panels.timeseries(
        Words(
            "Active sessions",
            "WebSocket connections that are open, by route. A cliff is a wave of closes; a cliff that does not "
            "climb back is clients that cannot or will not return.",
            Runbook.RECONNECT_STORM,
        ),
        COUNT,
        Query(by(("route",), series(ACTIVE)), "{{route}}"),
        calcs=("lastNotNull", "min", "max"),
    )


def handshakes() -> Json:
    """Arrivals."""
    return panels.timeseries(
        Words(
            "Handshakes",
            "Clients that ask for a WebSocket, by minute: those let in and those turned away. A peak right after "
            "a wave of closes is everybody coming back at once.",
            Runbook.RECONNECT_STORM,
        ),
        PER_MINUTE,
        Query(per_minute((), series(HANDSHAKES, status=ACCEPTED)), "let in"),
        Query(per_minute((), series(HANDSHAKES, status=Not((ACCEPTED,)))), "turned away"),
        colours={"let in": GREEN, "turned away": ORANGE},
    )


def handshake_failures() -> Json:
    """By status."""
    return panels.timeseries(
        Words(
            "Handshake failures",
            "Answers to an upgrade that are not 101, by HTTP status: 401 and 403 are credentials, 404 a wrong "
            "path, 502 and 503 no app to talk to or over the limit, aborted no answer at all.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        PER_MINUTE,
        Query(that_happened(("status",), series(HANDSHAKES, status=Not((ACCEPTED,)))), "{{status}}"),
        colours=STATUSES,
        stacked=True,
    )


def handshake_total() -> Json:
    """As one number."""
    return panels.stat(
        Words(
            "Handshakes failed",
            "Upgrades in the time shown that were answered with anything but 101, or not at all.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        COUNT,
        Query(in_range((), series(HANDSHAKES, status=Not((ACCEPTED,)))), "failed", instant=True),
        thresholds=panels.steps((None, GREEN), (0.5, ORANGE)),
    )


def active_now() -> Json:
    """As one number."""
    return panels.stat(
        Words("Active now", "WebSocket connections that are open at this moment.", Runbook.RECONNECT_STORM),
        COUNT,
        Query(by((), series(ACTIVE)), "active"),
        thresholds=panels.steps((None, SLATE)),
        sparkline=True,
    )


def handshake_duration() -> Json:
    """Median and tail."""
    return panels.timeseries(
        Words(
            "Handshake duration",
            "Time from the request to upgrade to the head of its answer: what the app needs to let a client in.",
            Runbook.HANDSHAKE_FAILURES,
        ),
        SECONDS,
        Query(quantile(0.5, HANDSHAKE_DURATION), "median"),
        Query(quantile(0.99, HANDSHAKE_DURATION), "99 %"),
        colours={"median": BLUE, "99 %": ORANGE},
    )


def frames() -> Json:
    """By sender and opcode."""
    return panels.timeseries(
        Words(
            "Frames",
            "Frames that pass, by sender and opcode. Pings that stop, or messages of one side only, come before "
            "closes.",
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
    OPCODES[Opcode.TEXT]: ("#9673B9", "#8AB8FF"),
    OPCODES[Opcode.BINARY]: ("#705DA0", "#5794F2"),
    OPCODES[Opcode.CLOSE]: (RED, "#FF7383"),
    OPCODES[Opcode.PING]: ("#B5A642", YELLOW),
    OPCODES[Opcode.PONG]: ("#56A64B", "#A8D8A0"),
}


def payload() -> Json:
    """Bytes."""
    return panels.timeseries(
        Words(
            "Payload",
            "Payload bytes that pass, by sender; control frames count, headers do not.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        BYTES_PER_SECOND,
        Query(per_second(("sender",), series(PAYLOAD)), "from {{sender}}"),
        colours={f"from {peer}": colour for peer, colour in PEERS.items()},
    )


def ping_rtt() -> Json:
    """Median and tail by sender."""
    legend = {"median": (PEERS[Peer.SERVER], PEERS[Peer.CLIENT]), "99 %": (ORANGE, YELLOW)}
    return panels.timeseries(
        Words(
            "Ping round trip",
            "Time from a ping to its pong as they pass the sidecar. The server's pings measure the way to the "
            "clients and back; the clients' pings measure the app alone. A rise of the latter is an app whose "
            "loop is blocked, and comes before ping-timeouts.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        SECONDS,
        Query(quantile(0.5, PING_RTT, ("sender",)), "median, {{sender}} pings"),
        Query(quantile(0.99, PING_RTT, ("sender",)), "99 %, {{sender}} pings"),
        colours={
            f"{name}, {peer} pings": colour
            for name, pair in legend.items()
            for peer, colour in zip((Peer.SERVER, Peer.CLIENT), pair, strict=True)
        },
    )


def unobserved() -> Json:
    """By reason."""
    return panels.timeseries(
        Words(
            "Unobserved connections",
            "Connections that are forwarded and no longer understood, by reason: their endings are not explained."
            " tls: terminate TLS ahead of the sidecar. internal: a defect of the sidecar; its log has the trace.",
            Runbook.UNOBSERVED_TRAFFIC,
        ),
        PER_MINUTE,
        Query(that_happened(("reason",), series(UNOBSERVED)), "{{reason}}"),
        stacked=True,
    )


def connect_errors() -> Json:
    """By reason."""
    return panels.timeseries(
        Words(
            "Connect errors",
            "Clients' connections for which the app could not be connected to, by reason. refused: the app does not "
            "listen. resources: the sidecar is out of file descriptors, memory or ports.",
            Runbook.APP_DOWN,
        ),
        PER_MINUTE,
        Query(that_happened(("reason",), series(CONNECT_ERRORS)), "{{reason}}"),
        stacked=True,
    )


def cpu() -> Json:
    """Of the sidecar."""
    return panels.timeseries(
        Words(
            "Sidecar CPU",
            "CPU time of the sidecar's process. It uses one core at most: near 1 it adds delay to every message.",
            Runbook.SIDECAR_SATURATED,
        ),
        CORES,
        Query(by(("instance",), of_sidecars(rate(series(CPU)))), "{{instance}}"),
    )


def memory() -> Json:
    """Of the sidecar."""
    return panels.timeseries(
        Words(
            "Sidecar memory",
            "Resident memory of the sidecar's process. It grows with open sessions by a few KiB each.",
            Runbook.SIDECAR_SATURATED,
        ),
        BYTES,
        Query(by(("instance",), of_sidecars(series(RESIDENT))), "{{instance}}"),
    )


def descriptors() -> Json:
    """Used and allowed."""
    panel = panels.timeseries(
        Words(
            "Sidecar file descriptors",
            "Open file descriptors of the sidecar's process and how many it may have; a session takes two.",
            Runbook.SIDECAR_SATURATED,
        ),
        COUNT,
        Query(by((), of_sidecars(series(OPEN_FDS))), "open"),
        Query(by((), of_sidecars(series(MAX_FDS))), "allowed"),
        colours={"open": BLUE, "allowed": GREY},
        calcs=("lastNotNull", "max"),
    )
    dashed = override("allowed", ("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}), ("custom.fillOpacity", 0))
    panel["fieldConfig"]["overrides"].append(dashed)
    return panel


def drain() -> Json:
    """Its progress."""
    panel = panels.timeseries(
        Words(
            "Drain",
            "While the pod drains: sessions that are still open, and seconds until the deadline. Sessions left at the "
            "deadline are cut.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        COUNT,
        Query(by((), series(DRAIN_SESSIONS)), "sessions to go"),
        Query(f"max({series(DRAIN_SECONDS)})", "seconds to go"),
        colours={"sessions to go": BLUE, "seconds to go": GREY},
        calcs=("max",),
    )
    panel["fieldConfig"]["overrides"].append(override("seconds to go", ("unit", SECONDS)))
    return panel


def draining_now() -> Json:
    """Yes or no."""
    panel = panels.stat(
        Words("Draining", "Whether this pod's sidecar is ending sessions on purpose.", Runbook.UNEXPECTED_GOING_AWAY),
        NONE,
        Query(f"max({series(DRAINING)})", "draining"),
        thresholds=panels.steps((None, GREEN), (1, BLUE)),
    )
    mapping = {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "index": 1}}
    panel["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": mapping}]
    return panel


def started() -> Json:
    """How long ago."""
    return panels.stat(
        Words("Started", "When this pod's sidecar started.", Runbook.SIDECAR_DOWN),
        DATE,
        Query(f"1000 * max({of_sidecars(series(START_TIME))})", "started"),
        thresholds=panels.steps((None, SLATE)),
    )


def version() -> Json:
    """As text."""
    return panels.stat(
        Words("Version", "What runs: the sidecar's version, its Python and its engine.", Runbook.SIDECAR_DOWN),
        NONE,
        Query(
            f"count by ({', '.join(BUILD.labels)}) ({series(BUILD)})",
            "{{version}}, Python {{python}}, {{engine}}",
        ),
        thresholds=panels.steps((None, SLATE)),
        text="name",
    )
