"""The cases, as a table of sentences."""

from __future__ import annotations

from math import cos, pi

from exporter.observe import catalogue
from exporter.protocol.counters import IDLE_BUCKETS, LIFETIME_BUCKETS
from exporter.protocol.enums import Cause, ConnectError, Peer, Unobserved
from grafana.source.config import Config
from grafana.source.promql import CPU, MAX_FDS, OPEN_FDS, START_TIME
from tests.grafana.promtool import (
    AWAY,
    BUG,
    GONE,
    LOST,
    PING,
    RESET,
    RESTART,
    Case,
    Key,
    Pod,
    case,
    closes,
    each,
    fires,
    handshakes,
    never,
    once,
    series,
    silent,
)

SPIKE, DROPS, DOWN = "WebSocketInternalErrorSpike", "WebSocketAppDropsConnections", "WebSocketAppDown"
BURN, GOING, STORM = "WebSocketErrorBudgetBurn", "WebSocketUnexpectedGoingAway", "WebSocketReconnectStorm"
SHAKES, UNOBSERVED = "WebSocketHandshakeFailures", "WebSocketUnobservedTraffic"
SIDECAR, SATURATED, IDLE = "WebSocketSidecarDown", "WebSocketSidecarSaturated", "WebSocketIdleCutoff"
AGE = "WebSocketFixedAgeCutoff"
CRITICAL, WARNING = "critical", "warning"

#: Minutes of ordinary life before anything happens: longer than it takes to know what is normal (22).
T = 45
#: The same where a bug goes on for hours: longer than the half of the time whose median is the normal.
L = 780


def deploy(
    kind: Key, *, pods: int = 20, start: int = T, pace: int = 2, burst: int = 50, drain: bool, new: dict | None = None
) -> list[Pod]:
    """A rolling deploy: every ``pace`` minutes a pod sends its burst, is seen mute once, and goes; a new one comes."""
    world = []
    for index in range(pods):
        stop = start + index * pace
        world.append(
            Pod(
                f"old-{index}",
                {kind: once(burst, stop)},
                gone=stop + 2,
                mute=frozenset({stop + 1}),
                drains=stop if drain else 10**9,
            )
        )
        world.append(Pod(f"new-{index}", {kind: each(0), **(new or {})}, born=stop))
    return world


REFUSED = series(catalogue.CONNECT_ERRORS, reason=str(ConnectError.REFUSED))

LETTERS = {"1001": AWAY, "1012": RESTART, "1011": BUG, "1006": LOST, "1006 by reset": RESET, "1006 app down": GONE}

INTERNAL_ERRORS = [
    case(
        "The first error ever, alone in a quiet night, tells nobody",
        Pod("a", {BUG: once(1, T)}, traffic=False),
        never(),
        minutes=T + 90,
    ),
    case(
        "The first error ever of a pod that was just started tells nobody",
        Pod("a", {BUG: once(1, 2)}),
        never(),
        minutes=60,
    ),
    case(
        "A burst pages within five minutes of its first error, and resolves",
        Pod("a", {BUG: once(30, T)}),
        silent(SPIKE, T - 1),
        fires(SPIKE, T + 4, CRITICAL, namespace="prod", job="chat", route="all", cause="internal-error"),
        silent(SPIKE, T + 17, CRITICAL, namespace="prod", job="chat", route="all", cause="internal-error"),
    ),
    case(
        "A burst of a service that is a quarter of an hour old pages as well",
        Pod("a", {BUG: once(30, 15)}),
        fires(SPIKE, 19, CRITICAL),
    ),
    case(
        "A service that is newly watched and has a thousand errors a minute is no spike, and burns its budget",
        Pod("a", {BUG: each(1000)}),
        fires(BURN, 10, CRITICAL),
        never(SPIKE),
        minutes=90,
    ),
    case(
        "A bug that comes back every 25 minutes pages each time",
        Pod("a", {BUG: lambda m: 30 if m >= T and (m - T) % 25 == 0 else 0}),
        *(fires(SPIKE, T + 25 * times + 4, CRITICAL) for times in range(5)),
        *(silent(SPIKE, T + 25 * times + 17, CRITICAL) for times in range(5)),
    ),
    case(
        "From none to two a minute pages within ten minutes, and ends after the bug does",
        Pod("a", {BUG: each(2, T, T + 30)}),
        never(SPIKE, until=T),
        fires(SPIKE, T + 9, CRITICAL),
        fires(SPIKE, T + 29, CRITICAL),
        silent(SPIKE, T + 45, CRITICAL),
    ),
    case(
        "A steady thousand a minute is normal, and so is a fifth more",
        Pod("a", {BUG: lambda m: 1000 if m < T else 1200}),
        silent(SPIKE, T - 1),
        silent(SPIKE, T + 5),
        silent(SPIKE, T + 30),
    ),
    case(
        "A doubling from a thousand a minute pages",
        Pod("a", {BUG: lambda m: 1000 if m < T else 2000}),
        silent(SPIKE, T),
        fires(SPIKE, T + 10, CRITICAL),
    ),
    case(
        "One pod of fifty that fails pages",
        [Pod(f"p{i}", {BUG: each(3, T) if i == 17 else each(0)}) for i in range(50)],
        never(SPIKE, until=T),
        fires(SPIKE, T + 9, CRITICAL),
    ),
    case(
        "A restart of the sidecar in the middle of a spike, with counters at zero again, does not end the page",
        Pod("a", {BUG: each(4, T, T + 20)}, restarts=frozenset({T + 10})),
        fires(SPIKE, T + 9, CRITICAL),
        *(fires(SPIKE, T + minute, CRITICAL) for minute in (10.5, 12, 13, 15, 19)),
        silent(SPIKE, T + 36, CRITICAL),
    ),
    case(
        "A counter reset alone is no error",
        Pod("a", {BUG: once(500, 5)}, restarts=frozenset({T})),
        silent(SPIKE, T),
        silent(SPIKE, T + 3),
        silent(SPIKE, T + 8),
    ),
    case(
        "A pod that is replaced in the middle of a spike hands the page on to its successor",
        [Pod("a", {BUG: each(6, T)}, gone=T + 8), Pod("b", {BUG: each(6, T)}, born=T + 8)],
        fires(SPIKE, T + 7, CRITICAL),
        fires(SPIKE, T + 14, CRITICAL),
    ),
    case(
        "Three failed scrapes in a spike do not end the page, and do not make the sidecar down",
        Pod("a", {BUG: each(4, T)}, mute=range(T + 12, T + 15)),
        *(fires(SPIKE, T + minute, CRITICAL) for minute in (11, 12, 13, 14, 14.5, 15, 16, 18)),
        never(SIDECAR),
    ),
    case(
        "Three minutes in which Prometheus did not scrape do not end the page",
        Pod("a", {BUG: each(4, T)}, unseen=range(T + 12, T + 15)),
        *(fires(SPIKE, T + minute, CRITICAL) for minute in (11, 12, 13, 14, 14.5, 15, 16, 18)),
        never(SIDECAR),
    ),
    case(
        "A scrape gap in a steady rate of errors is no spike when it ends",
        Pod("a", {BUG: each(100)}, unseen=range(T, T + 4)),
        *(silent(SPIKE, T + minute) for minute in (0, 2, 4, 5, 6, 8, 12)),
    ),
    case(
        "A lone error beside a scrape gap tells nobody",
        Pod("a", {BUG: once(1, T + 3)}, unseen=range(T, T + 4)),
        never(),
        minutes=T + 30,
    ),
    case(
        "graphql-ws' 4500 counts like 1011",
        Pod("a", {closes(4500, Cause.INTERNAL_ERROR): each(2, T), BUG: each(1, T)}),
        fires(SPIKE, T + 8, CRITICAL),
    ),
    case(
        "A client's 1011 is not the server's",
        Pod("a", {closes(1011, Cause.INTERNAL_ERROR, Peer.CLIENT): each(20, T)}),
        never(),
        minutes=T + 30,
    ),
    case(
        "Two routes with a handful of errors each are not added up, and the one with more is named",
        Pod(
            "a",
            {
                closes(1011, Cause.INTERNAL_ERROR, route="/chat"): each(0.5, T),
                closes(1011, Cause.INTERNAL_ERROR, route="/feed"): each(3, T),
                handshakes(101, route="/chat"): each(9),
                handshakes(101, route="/feed"): each(9),
            },
        ),
        fires(SPIKE, T + 9, CRITICAL, route="/feed"),
        silent(SPIKE, T + 9, CRITICAL, route="/chat"),
    ),
    case(
        "Outside Kubernetes, with neither namespace nor pod, it works the same",
        Pod("10.0.0.7", {BUG: once(30, T)}, kubernetes=False),
        fires(SPIKE, T + 4, CRITICAL, job="chat", route="all"),
        silent(SPIKE, T + 17, CRITICAL, job="chat", route="all"),
    ),
    case(
        "Ping timeouts warn and never page, whatever their number and code",
        Pod("a", {PING: each(50, T, T + 30), closes(1000, Cause.PING_TIMEOUT): each(9, T),
                  closes(1006, Cause.PING_TIMEOUT): each(9, T)}),
        fires(SPIKE, T + 9, WARNING, cause="ping-timeout"),
        never(severity=CRITICAL),
        silent(SPIKE, T + 50, WARNING, cause="internal-error"),
    ),
]  # fmt: skip

DEPLOYS = [
    *(
        case(
            f"A rolling deploy of 20 pods, each ending its sessions with {name}, {how}, pages nobody",
            deploy(kind, start=25, drain=drain),
            never(severity=CRITICAL),
            never(GOING),
            never(DROPS),
            minutes=80,  # the last pod stops at 63, and its burst would have left the window at 75
        )
        for name, kind in LETTERS.items()
        for drain, how in ((True, "draining"), (False, "with no drain seen"))
    ),
    case(
        "A wave of 1011 that goes on from the new pods after the deploy's bursts pages",
        deploy(BUG, drain=True, new={BUG: each(2, T + 40)}),
        never(severity=CRITICAL, until=T + 40),
        fires(SPIKE, T + 49, CRITICAL),
    ),
    case(
        "A new version that fails from its first minute pages while the deploy still goes on",
        deploy(BUG, drain=True, pace=3, new={BUG: each(3)}),
        fires(SPIKE, T + 9, CRITICAL),
    ),
    case(
        "A wave of 1011 from pods that stay pages during a deploy",
        [*deploy(BUG, drain=True), *(Pod(f"stays-{i}", {BUG: each(2, T + 10)}) for i in range(3))],
        never(severity=CRITICAL, until=T + 10),
        fires(SPIKE, T + 19, CRITICAL),
    ),
    case(
        "A wave of dropped connections from pods that stay pages during a deploy",
        [*deploy(LOST, drain=False), *(Pod(f"stays-{i}", {LOST: each(2, T + 10)}) for i in range(3))],
        never(severity=CRITICAL, until=T + 10),
        fires(DROPS, T + 19, CRITICAL),
    ),
    case(
        "A pod that drains for long is forgiven its first burst",
        [Pod("a", {BUG: once(100, T)}, drains=T), Pod("b")],
        never(severity=CRITICAL),
        minutes=T + 60,
    ),
    case(
        "A draining pod is forgiven a burst that takes two minutes",
        [Pod("a", {BUG: each(200, T, T + 2), LOST: each(200, T + 1, T + 3)}, drains=T), Pod("b")],
        never(severity=CRITICAL),
        minutes=T + 40,
    ),
    case(
        "A wave of 1011 that goes on in a pod that drains and drains pages, once it is longer than a burst",
        [Pod("a", {BUG: each(20, T)}, drains=T), Pod("b")],
        never(severity=CRITICAL, until=T + 4),
        fires(SPIKE, T + 7, CRITICAL),
        fires(SPIKE, T + 30, CRITICAL),
    ),
    case(
        "A wave of three 1011 a minute in a pod that drains pages within ten minutes, and resolves",
        [Pod("a", {BUG: each(3, T, T + 20)}, drains=T), Pod("b")],
        fires(SPIKE, T + 9.5, CRITICAL),
        fires(SPIKE, T + 19, CRITICAL),
        silent(SPIKE, T + 36, CRITICAL),
    ),
    case(
        "A wave of three dropped connections a minute in a pod that drains pages within ten minutes",
        [Pod("a", {LOST: each(3, T)}, drains=T - 3), Pod("b")],
        fires(DROPS, T + 9.5, CRITICAL),
    ),
    case(
        "A bug that is paged goes on being paged while its pod drains",
        [Pod("a", {BUG: each(6, T)}, drains=T + 15), Pod("b")],
        *(fires(SPIKE, T + minute, CRITICAL) for minute in (14, 16, 18, 20, 22, 24, 26, 28, 30)),
    ),
    case(
        "A drain that begins while Prometheus is away for six minutes is forgiven its burst",
        [Pod("a", {BUG: once(120, T)}, drains=T, gone=T + 4, unseen=range(T - 6, T)), Pod("b", unseen=range(T - 6, T))],
        never(severity=CRITICAL),
        minutes=T + 40,
    ),
    case(
        "A burst at the end of a drain of twenty minutes, as the app stops, pages nobody",
        [Pod("a", {BUG: once(100, T + 20)}, drains=T, gone=T + 21), Pod("b")],
        never(severity=CRITICAL),
        minutes=T + 60,
    ),
    case(
        "The bug that a deploy brought pages, however many 1011 the stopping pods had sent",
        deploy(BUG, pods=5, burst=2000, drain=True, new={BUG: each(1, T + 12)}),
        never(severity=CRITICAL, until=T + 11),
        fires(SPIKE, T + 21, CRITICAL),
    ),
]

DROPPED = [
    case(
        "An app that begins to drop connections while it lives pages within ten minutes, and resolves",
        Pod("a", {LOST: each(2, T, T + 20), RESET: each(1, T, T + 20)}),
        never(DROPS, until=T),
        fires(DROPS, T + 9, CRITICAL, route="all"),
        silent(DROPS, T + 36, CRITICAL, route="all"),
    ),
    case(
        "A burst of dropped connections pages within five minutes",
        Pod("a", {LOST: once(40, T)}),
        fires(DROPS, T + 4, CRITICAL),
    ),
    case(
        "An app that always ends without a Close is taken as it is",
        Pod("a", {LOST: each(30)}),
        silent(DROPS, T),
        silent(DROPS, T + 20),
    ),
    case(
        "Clients that vanish are no fault of the app",
        Pod("a", {closes(1006, Cause.CONNECTION_LOST, Peer.CLIENT): each(50, T)}),
        never(severity=CRITICAL),
        minutes=T + 30,
    ),
    case(
        "An app that dies once in one pod and comes back warns, pages nobody, and resolves",
        [Pod("a", {GONE: once(40, T)}), Pod("b")],
        never(DOWN, until=T),
        fires(DOWN, T + 4, WARNING),
        never(severity=CRITICAL),
        silent(DOWN, T + 17, WARNING),
    ),
    case(
        "An app that dies under its sessions in two pods pages within five minutes, and resolves",
        [Pod("a", {GONE: once(40, T)}), Pod("b", {closes(1006, "app-restarted"): once(40, T)}), Pod("c")],
        never(DOWN, until=T),
        fires(DOWN, T + 4, CRITICAL),
        silent(DOWN, T + 17, CRITICAL),
    ),
    case(
        "A worker that dies again and again while the app accepts connections pages",
        [Pod("a", {closes(1006, "worker-lost"): lambda m: 20 if m > T and m % 3 == 0 else 0}), Pod("b"), Pod("c")],
        fires(DOWN, T + 10, CRITICAL),
    ),
    case(
        "An app that dies in one pod and refuses connections from then on pages within ten minutes",
        [Pod("a", {GONE: once(40, T), REFUSED: each(5, T)}), Pod("b"), Pod("c")],
        fires(DOWN, T + 9, CRITICAL),
    ),
    case(
        "An app that dies again and again does not become normal",
        Pod("a", {GONE: lambda m: 20 if m > T and m % 5 == 0 else 0}),
        *(fires(DOWN, T + minute, CRITICAL) for minute in (14, 60, 120, 180)),
    ),
    case(
        "A single session that ended with its app tells nobody",
        Pod("a", {GONE: once(1, T)}),
        never(),
        minutes=T + 30,
    ),
]

#: Days are long: rules evaluated every five minutes are as good as every half.
SLOWLY = Config(interval=300)
DAY = 1440

ON_AND_ON = [
    case(
        "A bug is paged for six hours: it does not become its own normal, and the page ends when it ends",
        Pod("a", {BUG: each(3, L, L + 350)}),
        never(SPIKE, until=L),
        *(fires(SPIKE, L + minute, CRITICAL) for minute in (15, 30, 45, 60, 90, 120, 190, 240, 300, 345)),
        silent(SPIKE, L + 375, CRITICAL),
        config=SLOWLY,
    ),
    case(
        "Nor does a doubling from a thousand a minute",
        Pod("a", {BUG: lambda m: 1000 if m < L else 2000}),
        silent(SPIKE, L),
        *(fires(SPIKE, L + minute, CRITICAL) for minute in (15, 30, 60, 120, 240, 345)),
        config=SLOWLY,
    ),
    case(
        "Nor do dropped connections, of three kinds",
        Pod("a", {LOST: each(1, L), RESET: each(1, L + 30), closes(1006, "dropped-on-message"): each(1, L)}),
        *(fires(DROPS, L + minute, CRITICAL) for minute in (15, 60, 120, 240, 345)),
        config=SLOWLY,
    ),
    case(
        "After six hours a bug is the error budget's business alone",
        Pod("a", {BUG: each(3, L)}),
        fires(SPIKE, L + 345, CRITICAL),
        silent(SPIKE, L + 400, CRITICAL),
        fires(BURN, L + 400, CRITICAL),
        silent(SPIKE, L + 900, CRITICAL),
        fires(BURN, L + 900, CRITICAL),
        config=SLOWLY,
    ),
    case(
        "Errors that swell tenfold and fade with the day's traffic are normal",
        Pod(
            "a",
            {
                BUG: lambda m: round(550 - 450 * cos(2 * pi * m / DAY)),
                closes(1001, Cause.GOING_AWAY, Peer.CLIENT): lambda m: round(5500 - 4500 * cos(2 * pi * m / DAY)),
            },
        ),
        never(SPIKE),
        minutes=2 * DAY,
        config=SLOWLY,
    ),
    case(
        "A bug goes on being paged though Prometheus was away for half an hour in its third hour",
        Pod("a", {BUG: each(3, L)}, unseen=range(L + 150, L + 180)),
        fires(SPIKE, L + 149, CRITICAL),
        fires(SPIKE, L + 200, CRITICAL),
        fires(SPIKE, L + 345, CRITICAL),
        config=SLOWLY,
    ),
]

BURNS = [
    case(
        "Two per cent of the endings are faults: the fast burn pages, and resolves soon after they end",
        Pod("a", {LOST: each(0.5, T, T + 60)}),
        never(BURN, until=T),
        fires(BURN, T + 59, CRITICAL, window="1h"),
        silent(BURN, T + 75, CRITICAL, window="1h"),
    ),
    case(
        "One per cent for hours: the six-hour window pages, the one-hour window does not",
        Pod("a", {LOST: each(0.2, T)}),
        silent(BURN, T + 120, CRITICAL, window="1h"),
        fires(BURN, T + 360, CRITICAL, window="6h"),
        config=SLOWLY,
    ),
    case(
        "A slow burn, twice too fast for three days, warns and never pages, and resolves hours after",
        Pod("a", {LOST: each(0.04, 0, 3 * DAY + 600)}),
        never(severity=CRITICAL),
        silent(BURN, 3 * DAY, WARNING, window="3d"),
        fires(BURN, 3 * DAY + 420, WARNING, window="3d"),
        fires(BURN, 3 * DAY + 720, WARNING, window="3d"),
        silent(BURN, 3 * DAY + 1200, WARNING, window="3d"),
        config=SLOWLY,
    ),
    case(
        "A budget that lasts is no alert",
        Pod("a", {LOST: each(0.01)}),
        never(),
        minutes=3 * DAY,
        config=SLOWLY,
    ),
    case(
        "Nine faults in an hour, though nothing else ended, are too few to get up for",
        Pod("a", {LOST: lambda m: 1 if T <= m < T + 54 and m % 6 == 0 else 0}, traffic=False),
        never(severity=CRITICAL),
        minutes=T + 120,
    ),
    case(
        "Three faults a day on a service with few endings never alert, in any window",
        Pod("a", {LOST: lambda m: 1 if m % 480 == 1 else 0, closes(1000, Cause.NORMAL): lambda m: m % 120 == 0},
            traffic=False),
        never(),
        minutes=4 * DAY,
        config=SLOWLY,
    ),
    case(
        "A service of three closes an hour that breaks whole is warned of within four hours, and pages nobody",
        Pod("a", {BUG: lambda m: m >= 360 and m % 20 == 0,
                  closes(1000, Cause.NORMAL): lambda m: m < 360 and m % 20 == 0}, traffic=False),
        never(until=360),
        fires(BURN, 600, WARNING, window="quiet"),
        never(severity=CRITICAL),
        config=SLOWLY,
    ),
    case(
        "Bursts of stopping pods burn no budget",
        deploy(LOST, drain=True, pods=20, pace=1, burst=500),
        never(BURN),
        minutes=T + 90,
    ),
]  # fmt: skip

WAVES = [
    case(
        "A wave of 1001 from a pod that stays, with no deploy, warns, and resolves",
        [Pod("a", {AWAY: once(40, T)}), Pod("b")],
        never(GOING, until=T),
        fires(GOING, T + 4, WARNING),
        silent(GOING, T + 17, WARNING),
        never(severity=CRITICAL),
    ),
    case(
        "A wave of 1012 counts as well",
        [Pod("a", {RESTART: once(40, T)}), Pod("b")],
        fires(GOING, T + 4, WARNING),
    ),
    case(
        "Browsers that leave are expected, in any number",
        Pod("a", {closes(1001, Cause.GOING_AWAY, Peer.CLIENT): lambda m: 10 if m < T else 500}),
        never(GOING),
        never(severity=CRITICAL),
        minutes=T + 30,
    ),
    case(
        "A wave of 1001 from a pod that stays is expected while another drains",
        [Pod("a", {AWAY: once(40, T)}), Pod("b", drains=T - 2, gone=T + 3)],
        never(GOING),
        minutes=T + 30,
    ),
    case(
        "A wave of 1001 warns though pods of another workload under the same job come and go",
        [
            Pod("a", {AWAY: once(40, T)}),
            *(
                Pod(f"other-{n}", born=n * 10, gone=n * 10 + 12, drains=n * 10 + 10, controller="other")
                for n in range(1, 9)
            ),
        ],
        fires(GOING, T + 4, WARNING, controller=".*chat"),
    ),
    case(
        "A few 1001 are no wave",
        Pod("a", {AWAY: once(5, T)}),
        never(),
        minutes=T + 30,
    ),
]


def returns(total: float, quick: float, minute: int) -> dict[Key, object]:
    """Recognised returning clients, of whom some waited for less than a second."""
    of = {"route": "all", "after_cause": str(Cause.GOING_AWAY)}
    return {
        series(catalogue.RECONNECT_DELAY, "_bucket", **of, le="1.0"): once(quick, minute),
        series(catalogue.RECONNECT_DELAY, "_bucket", **of, le="+Inf"): once(total, minute),
        series(catalogue.RECONNECT_DELAY, "_count", **of): once(total, minute),
    }


def storm(quick: float | None, wave: int = 600, total: float = 600) -> Pod:
    """600 clients come back at once after a wave of closes; there is no histogram of returns if ``quick`` is None."""
    ended = {AWAY: once(wave, T)} if wave else {}
    back = returns(total, quick, T) if quick is not None else {}
    return Pod("a", {**ended, **back, handshakes(101): lambda m: 620 if m == T else 20})


STORMS = [
    case(
        "Clients that come back at once after a wave of closes are a storm, and it resolves",
        storm(quick=580),
        never(STORM, until=T - 1),
        fires(STORM, T + 2, WARNING),
        silent(STORM, T + 12, WARNING),
    ),
    case("Clients that came back after a pause are none", storm(quick=30), never(STORM), minutes=T + 30),
    case("Where the sidecar has no histogram of returns, the number alone decides", storm(quick=None),
         fires(STORM, T + 2, WARNING)),
    case(
        "Nor does it decide while a rollout ends sessions that connect to other pods",
        [storm(quick=None), Pod("b", drains=T - 2, gone=T + 1), Pod("c", born=T - 2)],
        never(STORM),
        minutes=T + 30,
    ),
    case("Where nobody is recognised, there is no storm", storm(quick=0, total=0), never(STORM), minutes=T + 30),
    case("Where few returns are recognised, there is no storm", storm(quick=20, total=20), never(STORM),
         minutes=T + 30),
    case("Many handshakes with no wave of closes before are visitors", storm(quick=580, wave=0), never(STORM),
         minutes=T + 30),
    case(
        "A release whose clients leave and connect eight times as often as before is no storm",
        Pod("a", {closes(1001, Cause.GOING_AWAY, Peer.CLIENT): lambda m: 20 if m < T else 160,
                  handshakes(101): lambda m: 20 if m < T else 160}),
        never(STORM),
        minutes=T + 60,
    ),
    case(
        "Traffic of every kind that is suddenly four times as much, open sessions too, is no storm",
        Pod(
            "a",
            {
                closes(1006, Cause.CONNECTION_LOST, Peer.CLIENT): lambda m: 20 if m < T else 80,
                closes(1000, Cause.NORMAL, Peer.CLIENT): lambda m: 20 if m < T else 80,
                handshakes(101): lambda m: 40 if m < T else 160,
            },
            {series(catalogue.ACTIVE, route="all"): lambda m: 500 if m < T else 2000},
        ),
        never(STORM),
        minutes=T + 60,
    ),
    case(
        "A handful of sessions that end and come back are no storm",
        Pod("a", {AWAY: once(15, T), **returns(15, 15, T), handshakes(101): once(15, T)}, traffic=False),
        never(STORM),
        minutes=T + 30,
    ),
]  # fmt: skip

HANDSHAKES = [
    case(
        "A fifth of the handshakes fail with 502: that pages, and resolves",
        Pod("a", {handshakes(502): each(5, T, T + 20), handshakes(500): each(0)}),
        never(SHAKES, until=T),
        fires(SHAKES, T + 9, CRITICAL),
        silent(SHAKES, T + 36, CRITICAL),
    ),
    case("Three failed handshakes in a quiet night tell nobody", Pod("a", {handshakes(500): once(3, T)}, traffic=False),
         never(), minutes=T + 30),
    case("Five per cent that fail are below the threshold", Pod("a", {handshakes(503): each(1, T)}), never(SHAKES),
         minutes=T + 40),
    case(
        "Most handshakes refused with 401 or left without an answer: that warns, and pages nobody",
        Pod("a", {handshakes(401): each(30, T), handshakes("aborted"): each(20, T)}),
        fires(SHAKES, T + 9, WARNING),
        never(severity=CRITICAL),
    ),
    case(
        "What pods refuse with 503 as they go pages nobody",
        deploy(handshakes(503), drain=True),
        never(severity=CRITICAL),
        minutes=T + 60,
    ),
]  # fmt: skip

TLS = series(catalogue.UNOBSERVED, reason=str(Unobserved.TLS))
STRANGE = series(catalogue.UNOBSERVED, reason=str(Unobserved.FRAME))
STARVED = series(catalogue.CONNECT_ERRORS, reason=str(ConnectError.RESOURCES))

OURSELVES = [
    case(
        "Connections that are not understood warn, with the reason, and resolve",
        Pod("a", {STRANGE: each(3, T, T + 20), TLS: each(0)}),
        never(UNOBSERVED, until=T),
        fires(UNOBSERVED, T + 12, WARNING, reason="frame"),
        silent(UNOBSERVED, T + 35, WARNING, reason="frame"),
        silent(UNOBSERVED, T + 12, WARNING, reason="tls"),
    ),
    case("One port scan is nothing to tell", Pod("a", {TLS: once(3, T)}), never(), minutes=T + 30),
    case(
        "Pods that one after the other do not answer for five minutes each are not down",
        [*(Pod(name, mute=range(T + 5 * n, T + 5 * n + 5)) for n, name in enumerate("abcdef")), Pod("g")],
        never(SIDECAR),
        minutes=T + 60,
    ),
    case(
        "A pod that is discovered and does not answer warns, the others being well, and resolves",
        [Pod("a", mute=range(T, T + 20)), Pod("b"), Pod("c")],
        silent(SIDECAR, T + 7, WARNING),
        fires(SIDECAR, T + 9, WARNING, namespace="prod", job="chat"),
        never(SIDECAR, CRITICAL),
        silent(SIDECAR, T + 21, WARNING, namespace="prod", job="chat"),
    ),
    case(
        "A sidecar that is down for half a day is not forgotten",
        [Pod("a", mute=range(T, T + 900)), Pod("b")],
        fires(SIDECAR, T + 720, WARNING),
        config=SLOWLY,
    ),
    case(
        "All pods of a job that do not answer page, and it resolves",
        [Pod("a", mute=range(T, T + 20)), Pod("b", mute=range(T, T + 20))],
        fires(SIDECAR, T + 9, CRITICAL),
        silent(SIDECAR, T + 21, CRITICAL),
    ),
    case(
        "A whole job that is gone pages, for as long as it is missed",
        [Pod("a", gone=T), Pod("b", gone=T), Pod("other", job="feed")],
        silent(SIDECAR, T + 7),
        fires(SIDECAR, T + 9, CRITICAL, job="chat"),
        silent(SIDECAR, T + 9, CRITICAL, job="feed"),
        silent(SIDECAR, T + 70, CRITICAL, job="chat"),
    ),
    case(
        "A pod that a rollout took away is not down, nor is the job whose pods are all new",
        deploy(AWAY, drain=True),
        never(SIDECAR),
        minutes=T + 60,
    ),
    case(
        "A job whose pods were drained and are gone is not down",
        [Pod("a", drains=T, gone=T + 3), Pod("b", drains=T + 1, gone=T + 4)],
        never(SIDECAR),
        minutes=T + 80,
    ),
    case(
        "A sidecar that starts again and again warns, and resolves",
        Pod("a", gauges={series(START_TIME): lambda m: max(0, min(m, T + 20) - T) // 2}),
        never(SIDECAR, until=T),
        fires(SIDECAR, T + 9, WARNING, state="restarting"),
        silent(SIDECAR, T + 40, WARNING, state="restarting"),
    ),
    case(
        "A pod that drained and lingers without answering is not down",
        [Pod("a", drains=T, mute=range(T + 5, T + 25), gone=T + 25), Pod("b")],
        never(SIDECAR),
        minutes=T + 60,
    ),
    case(
        "A target that never was a sidecar may be down as it likes",
        [Pod("app", mute=range(T, T + 60), sidecar=False), Pod("a")],
        never(SIDECAR),
        minutes=T + 60,
    ),
    case(
        "A sidecar that uses up its core warns, and resolves",
        [Pod("a", {series(CPU): lambda m: 57 if T <= m < T + 20 else 6}), Pod("b", {series(CPU): each(6)})],
        never(SATURATED, until=T),
        fires(SATURATED, T + 11, WARNING, resource="cpu"),
        silent(SATURATED, T + 26, WARNING, resource="cpu"),
    ),
    case(
        "A sidecar with four relays that uses two cores is silent, and warns when it uses nearly four",
        Pod("a", {series(CPU): lambda m: 220 if m >= T + 20 else 120}, {series(catalogue.RELAYS): each(4)}),
        never(SATURATED, until=T + 20),
        fires(SATURATED, T + 31, WARNING, resource="cpu"),
    ),
    case(
        "A busy process that is no sidecar is not ours to tell of",
        [Pod("app", {series(CPU): each(59)}, sidecar=False), Pod("a", {series(CPU): each(6)})],
        never(),
        minutes=T + 30,
    ),
    case(
        "A sidecar that runs out of descriptors warns",
        Pod("a", gauges={series(OPEN_FDS): lambda m: 100 if m < T else 950, series(MAX_FDS): each(1000)}),
        never(SATURATED, until=T),
        fires(SATURATED, T + 6, WARNING, resource="descriptors"),
    ),
    case(
        "A sidecar that cannot connect for want of resources warns",
        Pod("a", {STARVED: each(5, T)}),
        never(SATURATED, until=T),
        fires(SATURATED, T + 9, WARNING, resource="connections"),
    ),
]


def idle(seconds: dict[float, float], start: int) -> dict[Key, object]:
    """Endings without a Close a minute, by the idle time before them."""
    told: dict[Key, object] = {}
    of = {"route": "all", "initiator": str(Peer.SERVER)}
    for edge in (*IDLE_BUCKETS, float("inf")):
        rate = sum(count for idle_time, count in seconds.items() if idle_time <= edge)
        le = "+Inf" if edge == float("inf") else f"{float(edge)}"
        told[series(catalogue.IDLE_BEFORE_DROP, "_bucket", **of, le=le)] = each(rate, start, start + 60)
    told[series(catalogue.IDLE_BEFORE_DROP, "_count", **of)] = each(sum(seconds.values()), start, start + 60)
    return told


TIMED = closes(1006, Cause.IDLE_TIMEOUT)

IDLENESS = [
    case(
        "Sessions cut after a minute of silence name nginx and ALB, warn only, and resolve",
        Pod("a", {**idle({60.4: 1, 12.0: 0.2}, T), TIMED: each(1, T, T + 60)}),
        never(IDLE, until=T),
        fires(IDLE, T + 40, WARNING, cutoff="60s", culprit=".*nginx.*ALB.*"),
        silent(IDLE, T + 40, WARNING, cutoff="mixed"),
        silent(IDLE, T + 130, WARNING, cutoff="60s", culprit=".*nginx.*ALB.*"),
        never(severity=CRITICAL),
    ),
    case(
        "Sessions cut after 350 seconds name the NLB",
        Pod("a", idle({350.2: 1}, T)),
        fires(IDLE, T + 40, WARNING, cutoff="350s", culprit=".*NLB.*"),
    ),
    case(
        "Endings at all kinds of idle times are nobody's timeout",
        Pod("a", idle({3.0: 1, 20.0: 1, 60.0: 1, 150.0: 1, 400.0: 1}, T)),
        never(IDLE),
        minutes=T + 60,
    ),
    case("A handful of cuts is not worth a word", Pod("a", idle({60.0: 0.2}, T)), never(IDLE), minutes=T + 60),
    case(
        "Cuts at a cut-off of the operator's own, which no known one explains, are told as well",
        Pod("a", {**idle({45.0: 1}, T), TIMED: each(1, T)}),
        fires(IDLE, T + 40, WARNING, cutoff="mixed"),
        silent(IDLE, T + 40, WARNING, cutoff="60s"),
    ),
]


def lifetimes(ages: dict[float, float], start: int, peer: Peer) -> dict[Key, object]:
    """Closes a minute for an hour, by the session's age."""
    of = {"route": "all", "initiator": str(peer)}
    counts: dict[Key, object] = {
        series(catalogue.LIFETIME, "_count", **of): each(sum(ages.values()), start, start + 60)
    }
    for edge in (*LIFETIME_BUCKETS, float("inf")):
        rate = sum(count for age, count in ages.items() if age <= edge)
        le = "+Inf" if edge == float("inf") else f"{float(edge)}"
        counts[series(catalogue.LIFETIME, "_bucket", **of, le=le)] = each(rate, start, start + 60)
    return counts


AGES = [
    case(
        "Sessions that a load balancer cuts at 30 seconds, busy or not, warn with the age and the culprit, and resolve",
        Pod("a", lifetimes({3.0: 5, 12.0: 1, 30.1: 4, 50.0: 0.2}, T, Peer.CLIENT)),
        never(AGE, until=T),
        fires(AGE, T + 40, WARNING, age="30s", initiator="client", culprit=".*GKE.*"),
        silent(AGE, T + 130, WARNING, age="30s", initiator="client", culprit=".*GKE.*"),
        never(severity=CRITICAL),
    ),
    case(
        "Sessions that end at an hour by the server name the app's side",
        Pod("a", lifetimes({130.0: 5, 900.0: 2, 3600.0: 1}, T, Peer.SERVER)),
        fires(AGE, T + 45, WARNING, age="3600s", initiator="server"),
    ),
    case(
        "Sessions of all ages, and short ones in great number, are no cut-off",
        Pod("a", lifetimes({2.0: 400, 8.0: 200, 20.0: 90, 30.0: 40, 50.0: 40, 60.0: 12, 80.0: 6}, T, Peer.CLIENT)),
        never(AGE),
        minutes=T + 70,
    ),
    case(
        "Sessions that never speak and are cut after a minute of silence are an idle cut-off and no fixed age",
        Pod("a", {**idle({60.4: 1}, T), **lifetimes({60.4: 1, 5.0: 1}, T, Peer.SERVER)}),
        fires(IDLE, T + 40, WARNING, cutoff="60s"),
        never(AGE),
    ),
]


def vanishing(kind: Key, pods: int = 12, mute: int = 5) -> list[Pod]:
    """Nodes that vanish with no drain, every ten minutes: the app ends its sessions two scrapes before its sidecar."""
    gone = [
        Pod(f"node-{n}", {kind: once(100, T + 10 * n)}, gone=T + 10 * n + 2 + mute,
            mute=range(T + 10 * n + 2, T + 10 * n + 2 + mute))
        for n in range(pods // 2)
    ]  # fmt: skip
    return [*gone, *(Pod(f"stays-{n}") for n in range(pods - len(gone)))]


def tide(minute: int) -> float:
    """Traffic that swells to twenty times its ebb within the day."""
    return 400 * (1.05 - 0.95 * cos(2 * pi * minute / DAY))


def rare(minute: int) -> int:
    """Whole errors, 0.2 in a thousand of that traffic, as evenly as they can be."""
    return int(0.0002 * sum(map(tide, range(minute + 1)))) - int(0.0002 * sum(map(tide, range(minute))))


NO_PAGES = [
    *(
        case(
            f"Nodes that vanish with no drain page nobody and warn of nothing, where the app ends with {name}",
            vanishing(kind),
            never(),
            minutes=T + 90,
        )
        for name, kind in LETTERS.items()
        if kind not in (AWAY, RESTART)
    ),
    case(
        "Nodes that vanish with no drain are not down",
        vanishing(AWAY),
        never(SIDECAR),
        never(severity=CRITICAL),
        minutes=T + 90,
    ),
    case(
        "Known errors, one in a thousand, are normal in traffic that swells to twenty times its ebb",
        Pod("a", {BUG: lambda m: tide(m) * 0.0008, closes(1001, Cause.GOING_AWAY, Peer.CLIENT): tide}),
        never(),
        minutes=2 * DAY,
        config=SLOWLY,
    ),
    case(
        "Rare known errors, none in most minutes of the night, are normal in the morning, ten at once among them",
        Pod(
            "a",
            {BUG: lambda m: rare(m) + (10 if m == DAY + 420 else 0), closes(1001, Cause.GOING_AWAY, Peer.CLIENT): tide},
        ),
        never(),
        minutes=2 * DAY,
        config=SLOWLY,
    ),
    case(
        "Known errors are normal to a Prometheus that was away for half an hour, and to one that is new",
        Pod("a", {BUG: each(4), closes(1000, Cause.NORMAL): each(4000)}, unseen=range(T, T + 30)),
        *(never(name) for name in (SPIKE, DROPS, DOWN, BURN)),
        minutes=T + 90,
    ),
    case(
        "A carrier that fails for five minutes ends a twentieth of the sessions with ping timeouts: no warning",
        Pod("a", {PING: each(24, T, T + 5), closes(1001, Cause.GOING_AWAY, Peer.CLIENT): each(600)}),
        never(),
        minutes=T + 40,
    ),
    case(
        "A rollout of two hundred pods pages nobody, and warns of nothing",
        [
            pod
            for n in range(200)
            for pod in (
                Pod(f"old-{n}", {BUG: once(120, T + n // 5)}, drains=T + n // 5, gone=T + n // 5 + 2),
                Pod(f"new-{n}", born=T + n // 5),
            )
        ],
        never(),
        minutes=T + 60,
    ),
    case(
        "Known errors of a big workload do not hide a small one that breaks under the same job",
        [
            *(Pod(f"big-{n}", {BUG: each(2), closes(1000, Cause.NORMAL): each(2000)}) for n in range(5)),
            Pod("small", {BUG: each(4, T)}, controller="small"),
        ],
        never(until=T),
        fires(SPIKE, T + 8, CRITICAL, controller="small"),
    ),
    case(
        "A background of errors that triples pages within eight minutes",
        Pod("a", {BUG: lambda m: 4 if m < T else 12, closes(1000, Cause.NORMAL): each(200)}),
        silent(SPIKE, T),
        fires(SPIKE, T + 8, CRITICAL),
    ),
]

CASES: list[Case] = [
    *INTERNAL_ERRORS,
    *DEPLOYS,
    *DROPPED,
    *ON_AND_ON,
    *BURNS,
    *WAVES,
    *STORMS,
    *HANDSHAKES,
    *OURSELVES,
    *IDLENESS,
    *AGES,
    *NO_PAGES,
]
