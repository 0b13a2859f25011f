"""One runbook per alert: what it means, what it does to people, which queries to paste, what to do.

The queries name metrics through the catalogue and recorded series through their functions, and the tests have promtool
parse every one. They select no service, so that they work as they are: paste, and look for the labels that the alert
carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.observe import catalogue
from exporter.observe.catalogue import Metric
from exporter.protocol.close_codes import REGISTRY
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS
from grafana.source import recording_rules as recording
from grafana.source import runbooks_sidecar
from grafana.source.config import FAULTS, Config
from grafana.source.promql import POD, SERVICE, duration, increase, metric, one_of, rate, sum_by
from grafana.source.runbook import HEAD, LOGS, PER_POD, Runbook, Step, changes, closes, page

_NOT_LET_IN = 'status!="101"'


def pages(config: Config) -> Mapping[str, str]:
    """Path -> Markdown of every runbook, and of the list of them."""
    books = runbooks(config)
    listed = "".join(f"| [{book.alert}]({book.alert}.md) | {_summary(book)} |\n" for book in books)
    index = f"{HEAD}# Runbooks\n\nOne for each alert.\n\n| alert | what happens to users |\n|---|---|\n{listed}"
    return {
        "docs/runbooks/README.md": index,
        **{f"docs/runbooks/{book.alert}.md": page(book) for book in books},
    }


def _summary(book: Runbook) -> str:
    """The first sentence of what it does to people."""
    return book.impact.partition(". ")[0].removesuffix(".") + "."


def runbooks(config: Config) -> list[Runbook]:
    """Every runbook, in the order of the alerts."""
    return [
        _internal_error(config),
        _drops(config),
        _app_down(config),
        _burn(config),
        _going_away(config),
        _storm(config),
        _handshakes(config),
        runbooks_sidecar.unobserved(config),
        _idle(config),
        runbooks_sidecar.down(config),
        runbooks_sidecar.saturated(config),
    ]


def _buckets(histogram: Metric, window: float) -> str:
    """How a histogram of endings by the server is spread."""
    return sum_by((*SERVICE, "le"), increase(metric(histogram, suffix="_bucket", initiator=Peer.SERVER), window))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _internal_error(config: Config) -> Runbook:
    info = REGISTRY[1011]
    staying = recording.staying_closes(config)
    return Runbook(
        "WebSocketInternalErrorSpike",
        (
            f"Code {info.code}, {info.name}. {info.meaning} {info.seen}",
            f"`critical`, cause `{Cause.INTERNAL_ERROR}`: the app closed sessions because of a failure of its own, "
            "far more often than it did in the hour before. Private codes that mean the same, such as 4500 of "
            "graphql-ws, count as well if the sidecar was told of them.",
            f"`warning`, cause `{Cause.PING_TIMEOUT}`: the same code, but the reason text or an unanswered ping says "
            "that the client fell silent. That is no bug of a handler.",
            f"Counted are endings that are {duration(config.settle)} old and whose pod is still there. A draining pod "
            f"is forgiven its worst {duration(config.drain_burst)}: what an app sends as it stops does not fire this, "
            "a wave that goes on does.",
        ),
        "Users lose their session in the middle of it. Clients come back at once, often to fail again.",
        (
            Step("How many, by cause, and against which normal?", f"{staying} > 0"),
            Step("The normal of the same.", f"{recording.staying_closes_normal(config)} > 0"),
            Step(
                "One pod or all? One: look at that pod and its node. All: look at the last release and at what the "
                "app depends on.",
                closes(*PER_POD, "code", cause=Cause.INTERNAL_ERROR),
            ),
            changes(config),
            Step(
                "Ping timeouts: do round trips grow? Then the network or a busy event loop is to blame.",
                "histogram_quantile(0.99, "
                f"{sum_by((*SERVICE, 'sender', 'le'), rate(metric(catalogue.PING_RTT, suffix='_bucket'), 300))})",
            ),
        ),
        (
            info.remedy,
            "If it began with a release, roll back first and read the traces after.",
            "If one pod fails and the others do not, delete that pod.",
            "For ping timeouts: look for a blocked event loop in the app, and for a proxy that stalls; do not roll "
            "back for them alone.",
        ),
        (LOGS,),
    )


def _drops(config: Config) -> Runbook:
    info = REGISTRY[1006]
    dropped = one_of(recording.DROPPED)
    return Runbook(
        "WebSocketAppDropsConnections",
        (
            f"Code {info.code}, {info.name}. {info.meaning}",
            "The app ended TCP connections without a Close frame and went on accepting new ones. That is what most "
            "servers do when a handler raises: uvicorn with any ASGI framework, aiohttp, tornado, autobahn. Counting "
            "1011 alone would miss it.",
        ),
        "As with internal errors: users lose their session, and browsers report 1006 with no reason.",
        (
            Step(
                "How many, by cause?",
                f"{sum_by((*SERVICE, 'cause'), metric(recording.staying_closes(config), cause=dropped))} > 0",
            ),
            Step("One pod or all?", closes(*PER_POD, "cause", cause=dropped)),
            Step(
                "For how long had nothing passed before the drop? A pile within a second or two is somebody's "
                "timeout, small numbers are exceptions.",
                _buckets(catalogue.IDLE_BEFORE_DROP, 600),
            ),
            changes(config),
        ),
        (
            "Look for an unhandled exception in the app's log at the time of the log lines' `session.closed`.",
            "If it began with a release, roll back.",
            "Have the app close with 1011 when a handler fails: clients then know, and so do you.",
            "If the app ends every session without a Close by design, nothing is wrong: the normal follows after "
            f"{duration(config.hold)}, the share of faults does not.",
        ),
        (LOGS,),
    )


def _app_down(config: Config) -> Runbook:
    return Runbook(
        "WebSocketAppDown",
        (
            "The app ended connections without a Close and did not accept a new one right after: its process was "
            "gone, while its pod was neither draining nor taken away. Node's `ws` without error handlers ends like "
            "this when a handler throws.",
        ),
        "Everybody on that pod was thrown out at once. Until the app is back, new clients get 502 from the sidecar.",
        (
            Step("Which pods, how many sessions?", closes(*PER_POD, cause=Cause.APP_DOWN)),
            Step(
                "Is the app back? Connect errors that go on say no.",
                f"{sum_by((*POD, 'reason'), increase(metric(catalogue.CONNECT_ERRORS), 300))} > 0",
            ),
            Step(
                "Do clients get 502?",
                f"{sum_by(SERVICE, increase(metric(catalogue.HANDSHAKES, status='502'), 300))} > 0",
            ),
            changes(config),
        ),
        (
            "`kubectl describe pod`: was the app's container killed for memory, or by its liveness probe? Raise the "
            "limit or fix the probe.",
            "`kubectl logs --previous` on the app's container shows the crash.",
            "If it began with a release, roll back.",
            "If somebody restarts the app in place, without its pod: have them drain first (`websocket-exporter "
            "drain`).",
        ),
        (LOGS,),
    )


def _burn(config: Config) -> Runbook:
    rows = [
        f"| {duration(row.long)} | {duration(row.short)} | {row.factor:g} | {row.factor * config.budget * 100:.4g} % "
        f"| {row.least} | {row.severity} |"
        for row in config.burn
    ]
    table = "\n".join(
        (
            "| window | and still in | burns times too fast | share of endings above | faults at least | severity |",
            "|---|---|---|---|---|---|",
            *rows,
        )
    )
    longest = config.burn[0].long
    return Runbook(
        "WebSocketErrorBudgetBurn",
        (
            f"The objective is that {config.objective * 100:g} % of sessions end without a fault of the server. A "
            f"fault is an ending begun by the server with one of the causes {_listed(FAULTS)}. "
            "Bursts of stopping pods are not counted. The budget burns too fast:",
            table,
        ),
        "More users than agreed lose their sessions. The fast windows are an outage, the slow ones a bug that has "
        "been there for days.",
        (
            Step("The share now.", recording.fault_ratio(longest)),
            Step("The number of faults behind it.", recording.fault_count(longest)),
            Step(
                "By cause: which alert's runbook to read next.",
                closes(*SERVICE, "cause", "code", window=longest, cause=one_of(FAULTS)),
            ),
            Step("By pod.", f"topk(10, {closes(*PER_POD, window=longest, cause=one_of(FAULTS))})"),
        ),
        (
            "Fast windows: as for the alert of the cause that stands out, [internal "
            "errors](WebSocketInternalErrorSpike.md), [drops](WebSocketAppDropsConnections.md) or [app "
            "down](WebSocketAppDown.md).",
            "Slow windows: open a ticket for the commonest cause; nobody needs to get up.",
            "If the objective does not fit the service, set `objective` in the generator's configuration.",
        ),
    )


def _going_away(config: Config) -> Runbook:
    away = one_of((Cause.GOING_AWAY, Cause.SERVICE_RESTART))
    return Runbook(
        "WebSocketUnexpectedGoingAway",
        (
            *(f"Code {REGISTRY[code].code}, {REGISTRY[code].name}. {REGISTRY[code].meaning}" for code in (1001, 1012)),
            "From the server that is weather during a deploy. Here there was none: no pod drained, went or came within "
            f"{duration(config.deploy)}, and the pods that sent it are still there.",
        ),
        "Users lose their session and should come back by themselves. The work of restarting comes again and again.",
        (
            Step("Which pods?", closes(*PER_POD, "code", cause=away)),
            changes(config),
            Step(
                "Do sessions end at one and the same age? Then the app, or a worker's recycling, limits it.",
                _buckets(catalogue.LIFETIME, 1800),
            ),
        ),
        (
            REGISTRY[1001].remedy,
            "Look at the app container's restarts (`kubectl get pods`): memory, liveness probe, a crash after a clean "
            "stop.",
            "Look for a worker manager that recycles workers (such as a limit of requests per worker) and spread it.",
            "If somebody restarts the app in place on purpose, drain the sidecar first: then this does not fire.",
        ),
        (LOGS,),
    )


def _storm(config: Config) -> Runbook:
    delay = sum_by((*SERVICE, "after_cause", "le"), increase(metric(catalogue.RECONNECT_DELAY, suffix="_bucket"), 600))
    return Runbook(
        "WebSocketReconnectStorm",
        (
            "Right after a wave of closes, many times the normal number of handshakes came, from clients that did not "
            "wait: the storm factor is handshakes over their normal, times the share of recognised clients that came "
            f"back within {config.immediate:g} s. Where too few are recognised, as when they return to other pods, "
            "every handshake is taken for one.",
        ),
        "The pods that are left take the load of all, authentication and databases behind them too. A storm can end "
        "the next pod, and so feed itself.",
        (
            Step("The factor, and its two parts.", recording.storm_factor(config)),
            Step("Handshakes over their normal.", recording.handshakes_over_normal(config)),
            Step("Share of immediate returns.", recording.immediate_returns(config)),
            Step("After which cause do they come back, and how soon?", f"histogram_quantile(0.5, {delay})"),
            Step(
                "What was the wave?",
                f"{sum_by((*SERVICE, 'cause', 'initiator'), increase(metric(catalogue.CLOSED), 600))} > 0",
            ),
            Step(
                "Are handshakes refused?",
                f"{sum_by((*SERVICE, 'status'), rate(metric(catalogue.HANDSHAKES), 300))} > 0",
            ),
        ),
        (
            f"Now: {REGISTRY[1013].reconnect_how} Limit new connections at the ingress, and add pods.",
            "For good: have clients back off exponentially and with jitter, at least after 1001, 1006, 1011 and 1012.",
            "Spread drains with `--drain-spread`, so that a stopping pod does not let go of everybody at once.",
        ),
    )


def _handshakes(config: Config) -> Runbook:
    return Runbook(
        "WebSocketHandshakeFailures",
        (
            f"`critical`: more than {config.handshake_failures * 100:g} % of the requests to upgrade were answered "
            "with a 5xx. The sidecar itself answers 502 when it cannot connect to the app, and 503 at its limit of "
            "connections; the app, or what stands behind it, answers all others.",
            f"`warning`: more than {config.handshake_refusals * 100:g} % were refused (4xx) or had no answer at all "
            "(`aborted`).",
        ),
        "Clients cannot connect. Those that are connected notice nothing yet.",
        (
            Step("By status.", f"{sum_by((*SERVICE, 'status'), increase(metric(catalogue.HANDSHAKES), 600))} > 0"),
            Step(
                "By pod.",
                f"{sum_by((*PER_POD, 'status'), increase(metric(catalogue.HANDSHAKES, _NOT_LET_IN), 600))} > 0",
            ),
            Step(
                "Could the sidecar connect to the app?",
                f"{sum_by((*POD, 'reason'), increase(metric(catalogue.CONNECT_ERRORS), 600))} > 0",
            ),
            Step(
                "How long do handshakes take?",
                "histogram_quantile(0.99, "
                f"{sum_by((*SERVICE, 'le'), rate(metric(catalogue.HANDSHAKE_DURATION, suffix='_bucket'), 300))})",
            ),
        ),
        (
            "500: the app fails in its handshake handler; read its log, roll back a release.",
            "502: is the app up, and on the port that `--upstream` names? Is the readiness probe honest?",
            "504: what does the app wait for as it accepts a session?",
            "503: raise `--max-connections` if it is set, or add pods.",
            "401, 403: did credentials, tokens or their issuer change? 404: did the path? 426: does the client speak "
            "another version of WebSocket than 13?",
            "`aborted`: the app is too slow for its clients, or ends the connection without an answer.",
        ),
    )


def _idle(config: Config) -> Runbook:
    table = "\n".join(
        (
            "| silence | who cuts there by default |",
            "|---|---|",
            *(f"| {cut:g} s | {who} |" for cut, who in KNOWN_CUTOFFS.items()),
        )
    )
    pile = recording.idle_drops(config)
    idle = metric(catalogue.CLOSED, cause=Cause.IDLE_TIMEOUT)
    return Runbook(
        "WebSocketIdleCutoff",
        (
            "Sessions end without a Close after always the same time in which nothing had passed either way. That is "
            "no bug of the app but somebody's idle timeout on the way; which one, the time tells:",
            table,
            '`cutoff="mixed"`: sessions ended at configured cut-offs, and no known one stands out.',
        ),
        "Quiet sessions are cut. Browsers report 1006; apps that wait for events miss them until the client is back.",
        (
            Step("At which time?", f"{pile} > 0"),
            Step(
                "The whole distribution, to see a time that is not in the table.",
                sum_by(
                    (*SERVICE, "initiator", "le"),
                    increase(metric(catalogue.IDLE_BEFORE_DROP, suffix="_bucket"), config.idle_window),
                ),
            ),
            Step(
                "From which side does the cut come? `client`: something before the sidecar; `server`: the app, or "
                "something between the two.",
                f"{sum_by((*SERVICE, 'initiator'), increase(idle, config.idle_window))} > 0",
            ),
            Step(
                "Does anybody send pings?",
                f"{sum_by((*SERVICE, 'sender'), rate(metric(catalogue.FRAMES, opcode='ping'), 600))}",
            ),
        ),
        (
            "Have the app, or the client, send a ping more often than the cut-off: every 20 or 25 s is usual.",
            "Or raise the timeout: nginx `proxy_read_timeout`, HAProxy `timeout tunnel`, ALB idle timeout, Envoy "
            "`stream_idle_timeout`. An NLB's cannot always be raised: ping.",
            "A proxy of your own with another timeout: tell the sidecar with `--idle-cutoff`.",
        ),
        (LOGS,),
    )
