"""Panels about closes: their codes and causes, who initiated them, and remedies. Used by more than one dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporter.observe.catalogue import IDLE_BEFORE_DROP, INCOMPLETE, LIFETIME, RECONNECT_DELAY, SUSPECT_CLOSES
from exporter.protocol.causes import CAUSES as TABLE
from exporter.protocol.close_codes import ABNORMAL, REGISTRY, CodeInfo
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS
from grafana.source import panels, recording_rules
from grafana.source.colours import (
    BLUE,
    CAUSES,
    CODES,
    ORANGE,
    PEERS,
    RED,
    SLATE,
    YELLOW,
    cause_patterns,
    code_patterns,
    of_causes,
    shade,
)
from grafana.source.config import EXPECTED, FAULTS, Config
from grafana.source.links import Runbook
from grafana.source.panels import COUNT, PER_MINUTE, SECONDS, SHARE, Bar, Column, Panel, Query, Words, properties
from grafana.source.promql import duration
from grafana.source.queries import (
    abnormal,
    buckets,
    by,
    closed,
    expected,
    in_range,
    one_of,
    per_minute,
    quantile,
    recorded,
    series,
    server_faults,
    share,
    that_happened,
)

INTERNAL = str(next(code for code, info in REGISTRY.items() if info.cause is Cause.INTERNAL_ERROR))

_INITIATED = ("cause", "initiator")
_LEGEND = "{{cause}} by {{initiator}}"


def faults_by_cause() -> Panel:
    """Build the app's faults over time."""
    return panels.time_series(
        Words(
            "Server faults by cause",
            f"Closes per minute that are the app's fault. A failed handler ends a session with {INTERNAL} in some "
            "frameworks and by dropping TCP in others (dropped-on-message, connection-lost): both are red here. "
            "worker-lost, app-down, app-restarted: a process died. The app's log has the stack trace.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(per_minute(("cause",), server_faults()), "{{cause}}", exemplars=True),
        colours={cause: CAUSES[cause] for cause in FAULTS},
        stacked=True,
    )


def going_away() -> Panel:
    """Build the expected closes over time."""
    return panels.time_series(
        Words(
            "Going away by cause",
            "Closes per minute with an ordinary reason: 1001 and 1012, the app's shutdown, the sidecar's drain, a "
            "proxy's reload. By the server or the proxy: a rollout or scale-down; compare with the marks on the time "
            "axis. By clients: browsers that navigate, reload or close a tab.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        PER_MINUTE,
        Query(that_happened(_INITIATED, expected()), _LEGEND, exemplars=True),
        colours=of_causes(EXPECTED),
        stacked=True,
    )


def faults_total() -> Panel:
    """Build the number of the app's faults."""
    return panels.number(
        Words(
            "Server faults",
            "Closes in the time range that are the app's fault: internal errors, sessions dropped without a Close "
            "frame, lost workers, an app that is down or restarted.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        COUNT,
        Query(in_range((), server_faults()), "faults", instant=True),
        panels.fault_steps(),
    )


def going_away_total() -> Panel:
    """Build the number of expected closes."""
    return panels.number(
        Words(
            "Going away",
            "Closes in the time range with an ordinary reason: rollouts, restarts, drains, leaving browsers.",
            Runbook.UNEXPECTED_GOING_AWAY,
        ),
        COUNT,
        Query(in_range((), expected()), "going away", instant=True),
        panels.neutral_steps(BLUE),
    )


def fault_share(config: Config) -> Panel:
    """Build the share of the app's faults, red above the error budget."""
    faults, every = in_range((), server_faults()), in_range((), closed())
    return panels.number(
        Words(
            "Share of faults",
            f"Server faults among all closes in the time range. Red: more than the {100 * config.budget:g} % that the "
            "objective allows.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        SHARE,
        Query(f"{faults} / ({every} > 0)", "share", instant=True),
        panels.fault_steps(config.budget),
    )


def abnormal_total() -> Panel:
    """Build the number of abnormal closes."""
    return panels.number(
        Words(
            "Abnormal closes",
            "Closes in the time range that the log and the sidecar's page call abnormal: all but normal ones and "
            "expected ones, with any initiator.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        COUNT,
        Query(in_range((), abnormal()), "abnormal", instant=True),
        panels.warning_steps(),
    )


def by_code() -> Panel:
    """Build closes by code."""
    return panels.time_series(
        Words(
            "Closes by code",
            "Code of the first Close frame and its sender; 1005 if the frame was empty, 1006 if TCP ended without "
            "one. The table in Diagnosis explains each code.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(that_happened(("code", "initiator"), closed()), "{{code}} by {{initiator}}", exemplars=True),
        patterns=code_patterns(),
        stacked=True,
    )


def by_cause() -> Panel:
    """Build closes by cause."""
    return panels.time_series(
        Words(
            "Closes by cause",
            f"The classified cause separates a {INTERNAL} for a missed ping from a {INTERNAL} for a bug, and the kinds "
            "of 1006 from each other. Red: faults of the app. Blue and green: expected and normal. Yellow: timeouts.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(that_happened(_INITIATED, closed()), _LEGEND, exemplars=True),
        patterns=cause_patterns(),
        stacked=True,
    )


def by_initiator() -> Panel:
    """Build closes by initiator."""
    return panels.time_series(
        Words(
            "Closes by initiator",
            "The peer that sent the first Close frame, or whose TCP ended first: a client, the server (the app), or "
            "the proxy (the sidecar, in a drain or over a limit).",
            Runbook.ERROR_BUDGET_BURN,
        ),
        PER_MINUTE,
        Query(per_minute(("initiator",), closed()), "{{initiator}}", exemplars=True),
        colours=PEERS,
    )


def dropped() -> Panel:
    """Build closes without a Close frame, by cause."""
    return panels.time_series(
        Words(
            "1006: no Close frame",
            "TCP ended without a Close frame. By the server: usually an unhandled exception or a lost process. "
            "idle-timeout: a proxy or load balancer cut a quiet connection. proxy-lost: a proxy in front reloaded. By "
            "the client: a lost network or a killed app.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        PER_MINUTE,
        Query(that_happened(_INITIATED, closed(code=ABNORMAL)), _LEGEND, exemplars=True),
        patterns=cause_patterns(),
        stacked=True,
    )


def abnormal_share(config: Config) -> Panel:
    """Build the shares of abnormal closes and of faults over time."""
    return panels.time_series(
        Words(
            "Share of abnormal closes",
            "Among all closes: abnormal ones, with any initiator, and server faults, which use up the error "
            f"budget. The dashed line is the objective's {100 * config.budget:g} %.",
            Runbook.ERROR_BUDGET_BURN,
        ),
        SHARE,
        Query(share(abnormal(), closed()), "abnormal"),
        Query(share(server_faults(), closed()), "server faults"),
        colours={"abnormal": YELLOW, "server faults": RED},
        objective=config.budget,
    )


def against_normal(config: Config) -> Panel:
    """Build the faults that page and the number to expect, as the alerts compare them."""
    window = duration(config.window)
    faults, normal = recording_rules.closes(config), recording_rules.expected(config)
    colours = dict(zip(recording_rules.PAGING, (RED, CAUSES[Cause.BAD_GATEWAY]), strict=True))
    panel = panels.time_series(
        Words(
            "Faults against their normal",
            f"Closes by the app in {window} on pods that stay, as the alerts count them, and dashed their normal: the "
            "number that the usual share of this service makes likely. A spike alert compares both. Without a line "
            "there is too little history, or the recording rules are not loaded.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        COUNT,
        *(Query(by((), recorded(faults, **{"class": name})), name) for name in colours),
        *(Query(by((), recorded(normal, **{"class": name})), f"{name} normal") for name in colours),
        colours=colours | {f"{name} normal": colour for name, colour in colours.items()},
    )
    dashed = {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "custom.fillOpacity": 0}
    panel.builder.override_by_regexp("/ normal$/", properties(dashed))
    return panel


def suspect_closes() -> Panel:
    """Build suspect closes by code."""
    return panels.time_series(
        Words(
            "Suspect closes",
            "Closes 1000 and 1005 by the app within 100 ms of a client's message that got no answer. A rise after a "
            "rollout is most likely a handler that fails in a framework that hides it.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        PER_MINUTE,
        Query(per_minute(("code",), series(SUSPECT_CLOSES)), "{{code}}"),
        colours={code: CODES[code] for code in ("1000", "1005")},
    )


def pings() -> Panel:
    """Build closes for missed pings by code."""
    return panels.time_series(
        Words(
            "Missed pings",
            f"Closes because a ping got no answer, by code and initiator. With code {INTERNAL} this is not a bug of "
            "the app: libraries send it when a client is gone.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        PER_MINUTE,
        Query(per_minute(("code", "initiator"), closed(cause=Cause.PING_TIMEOUT)), "{{code}} by {{initiator}}"),
        colours={f"{INTERNAL} by {Peer.SERVER}": CAUSES[Cause.PING_TIMEOUT]},
        stacked=True,
    )


def lifetimes() -> Panel:
    """Build a heatmap of session lifetimes."""
    return panels.heat_map(
        Words(
            "Session lifetimes over time",
            "Age of sessions at their close. A dark row at a round age is a timeout; a dark row below one second is "
            "clients that are turned away after the handshake. Dots are traces.",
            Runbook.IDLE_CUTOFF,
        ),
        SECONDS,
        Query(buckets(LIFETIME), "{{le}}", exemplars=True, format=PromQueryFormat.HEATMAP),
    )


def known_ages(initiator: Peer) -> Panel:
    """Build bars of session lifetimes by initiator, with the ages at which proxies are known to cut."""
    side = {Peer.CLIENT: "in front of the sidecar", Peer.SERVER: "between the sidecar and the app"}[initiator]
    return panels.bars(
        Words(
            f"Session lifetimes, closed by the {initiator}",
            "Sessions that ended in the time range, by age. Orange: ages at which proxies and load balancers are known "
            f"to cut, whether the session is idle or not; here one {side}. A pile names the likely culprit.",
            Runbook.FIXED_AGE_CUTOFF,
        ),
        COUNT,
        Query(
            in_range(("le",), series(LIFETIME, "_bucket", initiator=initiator)),
            "{{le}}",
            instant=True,
            format=PromQueryFormat.HEATMAP,
        ),
        named_buckets(LIFETIME.buckets, KNOWN_CUTOFFS),
        colour=SLATE,
    )


def idle_before_drop() -> Panel:
    """Build bars of idle times before a drop, with the known idle timeouts."""
    return panels.bars(
        Words(
            "Idle time before a drop",
            "Closes without a Close frame in the time range, by the time since anything had passed. Orange: known "
            "idle timeouts; pings more often than that keep connections open. A pile below one second is a crash "
            "while messages flow.",
            Runbook.IDLE_CUTOFF,
        ),
        COUNT,
        _histogram(series(IDLE_BEFORE_DROP, "_bucket")),
        named_buckets(IDLE_BEFORE_DROP.buckets, KNOWN_CUTOFFS),
        colour=SLATE,
    )


def _histogram(selector: str) -> Query:
    return Query(in_range(("le",), selector), "{{le}}", instant=True, format=PromQueryFormat.HEATMAP)


def named_buckets(bounds: Sequence[float], known: Mapping[float, str]) -> list[Bar]:
    """Return a bar per bucket: its range, and the culprit in orange where a known time falls into it."""
    bars: list[Bar] = []
    for below, bound in pairwise([0.0, *bounds]):
        culprit = next((who for time, who in known.items() if below < time <= bound), None)
        name = f"{_time(below)}\N{EN DASH}{_time(bound)}"
        bars.append(Bar(bound, f"{name}: {culprit.split(', ')[0]}" if culprit else name, ORANGE if culprit else SLATE))
    return [*bars, Bar(float("inf"), f"over {_time(bounds[-1])}", SLATE)]


def _time(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def reconnects() -> Panel:
    """Build median and tail of the time until clients return."""
    after = {Cause.GOING_AWAY: BLUE, Cause.INTERNAL_ERROR: RED}
    labels = ("after_cause",)
    matchers = {"after_cause": one_of(after)}
    return panels.time_series(
        Words(
            "Reconnect delay",
            "Time until the same client's next handshake, after going away and after an internal error. After a "
            "rollout the delays should spread over many seconds: a p50 below half a second means that clients do not "
            "back off and return all at once.",
            Runbook.RECONNECT_STORM,
        ),
        SECONDS,
        Query(quantile(0.5, RECONNECT_DELAY, labels, **matchers), "{{after_cause}} p50"),
        Query(quantile(0.99, RECONNECT_DELAY, labels, **matchers), "{{after_cause}} p99"),
        colours={f"{cause} p50": colour for cause, colour in after.items()}
        | {f"{cause} p99": shade(cause, Peer.CLIENT) for cause in after},
    )


def incomplete() -> Panel:
    """Build closing handshakes without an answer."""
    return panels.time_series(
        Words(
            "Incomplete closing handshakes",
            "A Close frame was sent and TCP ended before the other peer answered it. Some are ordinary; many from one "
            "side mean that it tears connections down instead of closing them.",
            Runbook.APP_DROPS_CONNECTIONS,
        ),
        PER_MINUTE,
        Query(per_minute(("initiator",), series(INCOMPLETE)), "closed by {{initiator}}"),
        colours={f"closed by {peer}": colour for peer, colour in PEERS.items()},
    )


def table_of_closes() -> Panel:
    """Build a table of closes in the time range."""
    labels = ("code", "cause", "initiator")
    return panels.rows(
        Words(
            "Closes in the time range",
            "Every combination of code, cause and initiator that occurred, the most frequent first.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        [
            Column("code", "Code", colours=CODES),
            Column("cause", "Cause", colours={str(cause): colour for cause, colour in CAUSES.items()}),
            Column("initiator", "By"),
            Column("Value", "Closes", COUNT, bar=BLUE),
        ],
        Query(f"{in_range(labels, closed())} > 0", instant=True, format=PromQueryFormat.TABLE),
        sort="Closes",
    )


def causes() -> Panel:
    """Build the table of causes as a text."""
    rows = [f"| **{info.cause}** | {info.meaning} | {info.remedy} |" for info in TABLE.values()]
    return panels.page(
        Words(
            "Causes: meaning and remedy",
            "Every cause with its meaning and the first thing to do, faults of the app first.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        "\n".join(["| cause | meaning | remedy |\n|---|---|---|", *rows]),
    )


def remedies() -> Panel:
    """Build the registry of close codes as a text."""
    return panels.page(
        Words(
            "Close codes: meaning and remedy",
            "Every registered close code with its meaning, where it comes from, the remedy, and whether clients "
            "should reconnect. The same texts as `websocket-exporter explain`.",
            Runbook.INTERNAL_ERROR_SPIKE,
        ),
        registry_table(),
    )


def registry_table() -> str:
    """Return the registry as a Markdown table, the codes that matter most first."""
    first = [REGISTRY[1001], REGISTRY[int(INTERNAL)], REGISTRY[int(ABNORMAL)]]
    rest = [info for info in REGISTRY.values() if info not in first]
    head = "| code | name | meaning | seen | remedy | reconnect |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_row(info) for info in [*first, *rest])])


def _row(info: CodeInfo) -> str:
    cells = (f"**{info.code}**", info.name, info.meaning, info.seen, info.remedy, info.reconnect_how)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
