"""Panels about endings: who ended, with which code, why, and what to do about it. Used by more than one dashboard."""

from __future__ import annotations

from exporter.observe.catalogue import IDLE_BEFORE_DROP, INCOMPLETE, LIFETIME, RECONNECT_DELAY
from exporter.protocol.close_codes import ABNORMAL, REGISTRY, CodeInfo
from exporter.protocol.enums import Cause, Peer
from grafana.source import panels
from grafana.source.colours import BLUE, CAUSES, CODES, GREEN, ORANGE, PEERS, RED, YELLOW, shade
from grafana.source.config import FAULTS
from grafana.source.links import Runbook
from grafana.source.panels import COUNT, PER_MINUTE, SECONDS, SHARE, Column, Json, Query, Words
from grafana.source.queries import (
    DROPPED,
    EXPECTED,
    WEATHER,
    Not,
    buckets,
    by_server,
    closed,
    deployed,
    in_range,
    one_of,
    per_minute,
    quantile,
    series,
    share,
    that_happened,
)

INTERNAL = str(next(code for code, info in REGISTRY.items() if info.cause is Cause.INTERNAL_ERROR))

_CAUSE_BY_INITIATOR = {
    f"{cause} by {peer}": shade(cause, peer) for cause in (*WEATHER, Cause.INTERNAL_ERROR) for peer in Peer
}


def going_away() -> Json:
    """Weather: the left half of the first row."""
    labels = ("cause", "initiator")
    return panels.timeseries(
        Words(
            "Going away: a deploy, a leaving browser",
            "Codes 1001 and 1012, and what the sidecar's own drain ended. By the server or the proxy: a deploy, a"
            " scale-down or a restart; look for its mark on the time axis. By clients: browsers that navigate, "
            "reload or close a tab. A wave from the server with no mark of a deploy is worth a look.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        PER_MINUTE,
        Query(that_happened(labels, closed(cause=one_of(WEATHER))), "{{cause}} by {{initiator}}", exemplars=True),
        colours={name: colour for name, colour in _CAUSE_BY_INITIATOR.items() if Cause.INTERNAL_ERROR not in name},
        stacked=True,
    )


def internal_error() -> Json:
    """Faults: the right half of the first row."""
    return panels.timeseries(
        Words(
            "Internal error: a bug",
            f"Code {INTERNAL} and private codes that mean the same (4500 of graphql-ws). By the server: an unhandled "
            "exception; its log has the stack trace. By clients: their own code failed. The yellow share is "
            f"{INTERNAL} too, but libraries send it when a ping went unanswered: no bug, a lost client.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(
            per_minute(("cause", "initiator"), closed(cause=Cause.INTERNAL_ERROR)),
            "{{cause}} by {{initiator}}",
            exemplars=True,
        ),
        Query(per_minute(("cause",), closed(code=INTERNAL, cause=Cause.PING_TIMEOUT)), f"{INTERNAL} for {{{{cause}}}}"),
        colours=_CAUSE_BY_INITIATOR | {f"{INTERNAL} for {Cause.PING_TIMEOUT}": CAUSES[Cause.PING_TIMEOUT]},
        stacked=True,
    )


def total(title: str, description: str, runbook: Runbook, selector: str, *thresholds: tuple[float | None, str]) -> Json:
    """One count over the time shown."""
    query = Query(in_range((), selector), title, instant=True)
    return panels.stat(Words(title, description, runbook), COUNT, query, thresholds=panels.steps(*thresholds))


def totals() -> list[Json]:
    """The counts that say in a glance which it is: weather, a bug, or a crash without a word."""
    return [
        total(
            "Server going away",
            "Endings that the server began with 1001 or 1012, and those of the sidecar's drain, in the time "
            "shown: deploys.",
            Runbook.UNEXPECTED_GOING_AWAY,
            deployed(),
            (None, BLUE),
        ),
        total(
            "Clients going away",
            "Endings that clients began with 1001 in the time shown: browsers that navigate, reload or close a tab.",
            Runbook.UNEXPECTED_GOING_AWAY,
            closed(cause=Cause.GOING_AWAY, initiator=Peer.CLIENT),
            (None, shade(Cause.GOING_AWAY, Peer.CLIENT)),
        ),
        total(
            "Server errors",
            f"Endings that the server began with {INTERNAL} or a private code of that meaning, in the time shown: "
            "bugs.",
            Runbook.INTERNAL_ERROR_SPIKE,
            by_server(cause=Cause.INTERNAL_ERROR),
            (None, GREEN),
            (0.5, RED),
        ),
        total(
            "Dropped by the app",
            "The app ended TCP with no Close frame though it is alive, in the time shown: in most frameworks an "
            "unhandled exception looks like this.",
            Runbook.APP_DROPS_CONNECTIONS,
            by_server(cause=one_of(DROPPED)),
            (None, GREEN),
            (0.5, ORANGE),
        ),
    ]


def by_code() -> Json:
    """Every code."""
    return panels.timeseries(
        Words(
            "Closes by code",
            "Code of the first Close frame; 1005 if it was empty, 1006 if TCP ended with none. The table below "
            "says what each means. Colours are those of the code's cause.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(that_happened(("code",), closed()), "{{code}}", exemplars=True),
        colours=CODES,
        stacked=True,
    )


def by_cause() -> Json:
    """Every cause."""
    return panels.timeseries(
        Words(
            "Closes by cause",
            "The judged cause: it tells a 1011 for a ping from a 1011 for a bug, and what kind of 1006 it was. "
            "Blue and green are calm, red and orange are faults, yellow is silence on the line.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(that_happened(("cause",), closed()), "{{cause}}", exemplars=True),
        colours=CAUSES,
        stacked=True,
    )


def by_initiator() -> Json:
    """Who began."""
    return panels.timeseries(
        Words(
            "Closes by initiator",
            "Who sent the first Close frame, or whose TCP ended first: a client, the server (the app), or the "
            "proxy (the sidecar, in a drain or over a limit).",
            Runbook.ERROR_BUDGET_BURN,
        ),
        PER_MINUTE,
        Query(per_minute(("initiator",), closed()), "{{initiator}}", exemplars=True),
        colours=PEERS,
    )


def dropped() -> Json:
    """1006 taken apart."""
    labels = ("cause", "initiator")
    causes = (*DROPPED, Cause.APP_DOWN, Cause.IDLE_TIMEOUT, Cause.PING_TIMEOUT, Cause.DRAIN, Cause.LIMIT)
    return panels.timeseries(
        Words(
            "1006 by who dropped",
            "TCP ended with no Close frame. Lost or reset by the server while it is alive: an unhandled "
            "exception. app-down: its process is gone. idle-timeout: a proxy or load balancer cut a silent "
            "connection. By the client: a lost network or a killed app.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        PER_MINUTE,
        Query(that_happened(labels, closed(code=ABNORMAL)), "{{cause}} by {{initiator}}", exemplars=True),
        colours={f"{cause} by {peer}": shade(cause, peer) for cause in causes for peer in Peer},
        stacked=True,
    )


def abnormal_share() -> Json:
    """In all endings."""
    return panels.timeseries(
        Words(
            "Share of abnormal closes",
            "Of all endings: those that neither an ordinary goodbye nor a deploy explains, whoever began them; "
            "and those that are the server's fault (internal-error, dropped, app-down), which use up the error "
            "budget.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        SHARE,
        Query(share(closed(cause=Not(EXPECTED)), closed()), "abnormal"),
        Query(share(by_server(cause=one_of(FAULTS)), closed()), "the server's fault"),
        colours={"abnormal": YELLOW, "the server's fault": RED},
    )


def lifetimes() -> Json:
    """Heatmap."""
    return panels.heatmap(
        Words(
            "Session lifetimes",
            "How long sessions that ended had lived. A dark row at 60, 100, 300, 350, 600 or 3600 s is somebody's"
            " timeout; a dark row below a second is clients that are turned away after the handshake. Dots are "
            "traces.",
            Runbook.IDLE_CUTOFF,
        ),
        SECONDS,
        Query(buckets(LIFETIME), "{{le}}", exemplars=True, format="heatmap"),
    )


def idle_before_drop() -> Json:
    """Bars."""
    return panels.bargauge(
        Words(
            "Idle before a drop",
            "Endings without a Close frame in the time shown, by the seconds for which nothing had passed either "
            "way. A pile at 30-32: some clients; 58-62: nginx or AWS ALB; 98-102: Cloudflare; 348-352: AWS NLB. "
            "Pings more often than that keep connections open. A pile below 1 s is a crash in the midst of "
            "traffic.",
            Runbook.IDLE_CUTOFF,
        ),
        COUNT,
        Query(in_range(("le",), series(IDLE_BEFORE_DROP, "_bucket")), "{{le}}", instant=True, format="heatmap"),
        colour=YELLOW,
    )


def reconnects() -> Json:
    """Two medians and two tails, side by side."""
    after = {Cause.GOING_AWAY: BLUE, Cause.INTERNAL_ERROR: RED}
    labels = ("after_cause",)
    matchers = {"after_cause": one_of(after)}
    return panels.timeseries(
        Words(
            "Reconnect delay: after going away, after an internal error",
            "Time until the same client's next handshake. After a deploy the delays should spread over many "
            "seconds: a median below half a second means that clients do not back off and will arrive all at "
            "once.",
            Runbook.RECONNECT_STORM,
        ),
        SECONDS,
        Query(quantile(0.5, RECONNECT_DELAY, labels, **matchers), "{{after_cause}} median"),
        Query(quantile(0.95, RECONNECT_DELAY, labels, **matchers), "{{after_cause}} 95 %"),
        colours={f"{cause} median": colour for cause, colour in after.items()}
        | {f"{cause} 95 %": shade(cause, Peer.CLIENT) for cause in after},
    )


def incomplete() -> Json:
    """Close frames that nobody answered."""
    return panels.timeseries(
        Words(
            "Closing handshakes left incomplete",
            "A Close frame was sent and TCP ended before the other peer answered it. Some are ordinary; many from"
            " one side mean that it tears connections down and does not close them.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        PER_MINUTE,
        Query(per_minute(("initiator",), series(INCOMPLETE)), "closed by {{initiator}}"),
        colours={f"closed by {peer}": colour for peer, colour in PEERS.items()},
    )


def table_of_endings() -> Json:
    """What ended in the time shown."""
    labels = ("code", "cause", "initiator")
    expression = f"{in_range(labels, closed())} > 0"
    return panels.table(
        Words(
            "Endings in the time shown",
            "Every kind of ending that happened, the most frequent first.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        COUNT,
        [
            Column("code", "Code", colours=CODES),
            Column("cause", "Cause", colours=CAUSES),
            Column("initiator", "By"),
            Column("Value", "Endings", COUNT, bar=BLUE),
        ],
        Query(expression, instant=True, format="table"),
        sort="Endings",
    )


def what_to_do() -> Json:
    """The registry, as a page."""
    return panels.text(
        Words(
            "What to do",
            "Every registered close code: what it means, where it comes from, what to do, and whether clients "
            "should come back. The same words as `websocket-exporter explain`.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        remedies(),
    )


def remedies() -> str:
    """The registry as a Markdown table, the two that matter most first."""
    first = [REGISTRY[1001], REGISTRY[int(INTERNAL)], REGISTRY[int(ABNORMAL)]]
    rest = [info for info in REGISTRY.values() if info not in first]
    head = "| code | name | what it means | when it is seen | what to do | come back? |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_row(info) for info in [*first, *rest])])


def _row(info: CodeInfo) -> str:
    cells = (f"**{info.code}**", info.name, info.meaning, info.seen, info.remedy, info.reconnect_how)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
