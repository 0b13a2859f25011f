"""The alerts: what each looks for, how grave it is, what it tells.

``critical`` pages a person, ``warning`` does not, ``info`` is context. One alert may have several rules, told apart by
``variant``: the same trouble in another degree. All aggregate by namespace, job and route (or namespace and job where
nothing has a route), and keep those labels. Why none of them pages for a deploy is told in
:mod:`grafana.source.recording_rules`.

In texts, ``$value`` is the expression's value; the Grafana output rewrites it. The Prometheus output adds a sentence
with the result of ``normal``, which Grafana's templates cannot ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.observe import catalogue
from exporter.protocol.enums import Cause, ConnectError
from grafana.source import recording_rules as recording
from grafana.source.config import Config
from grafana.source.promql import (
    CPU,
    JOB,
    MAX_FDS,
    OPEN_FDS,
    POD,
    SERVICE,
    UP,
    aggregate,
    duration,
    increase,
    metric,
    on,
    one_of,
    over,
    rate,
    sum_by,
)
from grafana.source.recording_rules import ours

CRITICAL, WARNING = "critical", "warning"

COUNT = "{{ $value | humanize }}"
SHARE = "{{ $value | humanizePercentage }}"
#: Outside Kubernetes there is no namespace to name.
WORKLOAD = "{{ with $labels.namespace }}{{ . }}/{{ end }}{{ $labels.job }}"
WHO = f"{WORKLOAD}, route {{{{ $labels.route }}}}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    :ivar name: which names its runbook, too.
    :ivar variant: tells rules of one name apart; empty for the only or the gravest one.
    :ivar holds: seconds for which the expression must hold.
    :ivar keep_firing: seconds for which it goes on firing when the expression no longer holds.
    :ivar normal: a query for the number that the value is to be compared with; ``%s`` three times, for the service.
    """

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    variant: str = ""
    holds: float = 0
    keep_firing: float = 0
    labels: dict[str, str] = field(default_factory=dict)
    normal: str = ""


def alerts(config: Config) -> list[Alert]:
    """Every alerting rule, the gravest matters first."""
    return [
        *_internal_errors(config),
        *_drops(config),
        *_app_down(config),
        *_burn(config),
        *_going_away(config),
        *_storm(config),
        *_handshakes(config),
        *_unobserved(config),
        *_idle(config),
        *_down(config),
        *_saturated(config),
    ]


def _count(config: Config, *causes: Cause) -> str:
    """The number of endings with one of these causes, by pods that stay; with the cause kept if there is but one."""
    by = SERVICE if len(causes) > 1 else (*SERVICE, "cause")
    return sum_by(by, metric(recording.staying_closes(config), config.job_selector, cause=one_of(causes)))


def _spike(config: Config, *causes: Cause) -> str:
    """That number where a spike of these causes is going on."""
    by = SERVICE if len(causes) > 1 else (*SERVICE, "cause")
    going_on = metric(recording.spike(config), config.job_selector, cause=one_of(causes))
    return f"{_count(config, *causes)}\nand {on(by)} {going_on}"


def _normal(config: Config, *causes: Cause) -> str:
    """For a description: the normal of these causes, of the service whose labels are put in."""
    service = ",".join(f"{label}='%s'" for label in SERVICE)
    return f"sum({recording.staying_closes_normal(config)}{{{service},cause=~'{one_of(causes)}'}})"


def _internal_errors(config: Config) -> Iterator[Alert]:
    window = duration(config.window)
    for cause, severity, variant, summary, meaning in (
        (
            Cause.INTERNAL_ERROR,
            CRITICAL,
            "",
            f"{WHO}: the app closes sessions with an internal error",
            "The app reports a failure of its own (1011, or a private code that means the same).",
        ),
        (
            Cause.PING_TIMEOUT,
            WARNING,
            "ping-timeout",
            f"{WHO}: the app gives up on clients that do not answer pings",
            "No bug in a handler: clients, or the network to them, fell silent, or the app was too busy to read.",
        ),
    ):
        yield Alert(
            "WebSocketInternalErrorSpike",
            _spike(config, cause),
            severity,
            summary,
            f"{COUNT} sessions ended with cause {cause} by the server in {window}, well above the recent "
            f"normal. {meaning}",
            variant,
            keep_firing=config.keep_firing,
            normal=_normal(config, cause),
        )


def _drops(config: Config) -> Iterator[Alert]:
    yield Alert(
        "WebSocketAppDropsConnections",
        _spike(config, *recording.DROPPED),
        CRITICAL,
        f"{WHO}: the app drops connections without a Close",
        f"{COUNT} sessions ended with 1006 by the server in {duration(config.window)}, well above the recent normal, "
        "while the app went on accepting connections: the shape of an unhandled exception in an ASGI app.",
        keep_firing=config.keep_firing,
        normal=_normal(config, *recording.DROPPED),
    )


def _app_down(config: Config) -> Iterator[Alert]:
    yield Alert(
        "WebSocketAppDown",
        f"{_count(config, Cause.APP_DOWN)} >= {config.least}",
        CRITICAL,
        f"{WHO}: the app went down under its sessions",
        f"{COUNT} sessions ended in {duration(config.window)} because the app was gone: it ended their connections and "
        "accepted no new ones. The pods were not stopping.",
        keep_firing=config.keep_firing,
    )


def _burn(config: Config) -> Iterator[Alert]:
    for row in config.burn:
        limit = f"{row.factor * config.budget:.6g}"
        long, short = duration(row.long), duration(row.short)
        selected = (
            metric(recording.fault_ratio(row.long), config.job_selector),
            metric(recording.fault_ratio(row.short), config.job_selector),
            metric(recording.fault_count(row.long), config.job_selector),
        )
        yield Alert(
            "WebSocketErrorBudgetBurn",
            f"{selected[0]} > {limit}\nand {selected[1]} > {limit}\nand {selected[2]} >= {row.least}",
            row.severity,
            f"{WHO}: the error budget burns at more than {row.factor:g} times the rate that lasts",
            f"{SHARE} of the endings of {long} were faults of the server, and still are in the last {short}: more than "
            f"{row.factor:g} times the {config.budget * 100:.6g} % that the objective allows, and {row.least} faults "
            "or more.",
            f"{long}/{short}",
            labels={"window": long},
        )


def _going_away(config: Config) -> Iterator[Alert]:
    yield Alert(
        "WebSocketUnexpectedGoingAway",
        f"({_spike(config, *recording.LEAVING)})\n"
        f"unless {on(JOB)} {metric(recording.pods_changing(config), config.job_selector)}",
        WARNING,
        f"{WHO}: the app says goodbye and there is no deploy",
        f"{COUNT} sessions ended with 1001 or 1012 by the server in {duration(config.window)}, well above the recent "
        f"normal, from pods that stay; no pod was draining, went or came in {duration(config.deploy)}. Something "
        "restarts the app.",
        keep_firing=config.keep_firing,
        normal=_normal(config, *recording.LEAVING),
    )


def _storm(config: Config) -> Iterator[Alert]:
    asked = metric(recording.handshakes_lately(config), config.job_selector)
    closed = metric(recording.closes_lately(config), config.job_selector)
    usual = f"avg_over_time({over(closed, config.seconds(config.normal), config.seconds(config.window))})"
    yield Alert(
        "WebSocketReconnectStorm",
        f"{metric(recording.storm_factor(config), config.job_selector)} > {config.storm_factor:g}\n"
        f"and {asked} >= {config.storm_least}\n"
        f"and {closed} >= {config.storm_least}\n"
        f"and {closed} > {config.storm_factor:g} * {usual}",
        WARNING,
        f"{WHO}: clients come back all at once",
        f"After a wave of closes, clients that do not wait ask for {COUNT} times the normal number of handshakes "
        f"(over {duration(config.storm_window)}). They should come back with exponential backoff and jitter.",
    )


def _handshakes(config: Config) -> Iterator[Alert]:
    every = metric(recording.handshakes(config), config.job_selector, **{"class": "all"})
    for name, severity, share, least, variant, what in (
        ("failed", CRITICAL, config.handshake_failures, config.least, "", "failed on the server's side (5xx)"),
        (
            "refused",
            WARNING,
            config.handshake_refusals,
            config.refusals_least,
            "refused",
            "were refused (4xx) or got no answer",
        ),
    ):
        some = metric(recording.handshakes(config), config.job_selector, **{"class": name})
        yield Alert(
            "WebSocketHandshakeFailures",
            f"{some} / ignoring (class) {every} > {share:g}\nand ignoring (class) {some} >= {least}",
            severity,
            f"{WHO}: clients cannot connect",
            f"{SHARE} of the handshakes of {duration(config.window)} {what}: more than {share * 100:g} %, and {least} "
            "or more.",
            variant,
            keep_firing=config.keep_firing,
        )


def _unobserved(config: Config) -> Iterator[Alert]:
    window = config.seconds(config.window)
    lost = sum_by((*JOB, "reason"), increase(ours(config, catalogue.UNOBSERVED), window))
    asked = sum_by(JOB, increase(ours(config, catalogue.HANDSHAKES), window))
    every = f"({asked} + {on(JOB)} {sum_by(JOB, increase(ours(config, catalogue.UNOBSERVED), window))})"
    yield Alert(
        "WebSocketUnobservedTraffic",
        f"{lost} >= {config.least}\nand\n{lost}\n  > {on(JOB)} group_left () ({config.unobserved:g} * {every})",
        WARNING,
        f"{WORKLOAD}: connections pass that nobody understands ({{{{ $labels.reason }}}})",
        f"{COUNT} connections in {duration(config.window)} were forwarded without being understood, more than "
        f"{config.unobserved * 100:g} % of all. Their endings are not judged, so the other alerts see less than there "
        "is.",
        holds=config.steady,
    )


def _idle(config: Config) -> Iterator[Alert]:
    window = config.seconds(config.idle_window)
    pile = metric(recording.idle_drops(config), config.job_selector)
    every = sum_by(SERVICE, increase(ours(config, catalogue.IDLE_BEFORE_DROP, suffix="_count"), window))
    judged = sum_by(SERVICE, increase(ours(config, catalogue.CLOSED, cause=Cause.IDLE_TIMEOUT), window))
    found = (
        f"({pile} >= {config.idle_least}\n  and {pile} > {on(SERVICE)} group_left () ({config.idle_share:g} * {every}))"
    )
    name, told = "WebSocketIdleCutoff", f"in {duration(config.idle_window)} ended without a Close after"
    yield Alert(
        name,
        found,
        WARNING,
        f"{WHO}: something cuts sessions after {{{{ $labels.cutoff }}}} of silence",
        f"{COUNT} sessions {told} just {{{{ $labels.cutoff }}}} of silence, more than {config.idle_share * 100:g} % of "
        "all such endings. Likely culprit: {{ $labels.culprit }}.",
        holds=config.steady,
    )
    yield Alert(
        name,
        f"{judged} >= {config.idle_least}\nunless {on(SERVICE)} {found}",
        WARNING,
        f"{WHO}: something cuts sessions that are silent",
        f"{COUNT} sessions {told} one of the configured cut-offs, and no single one stands out. Likely culprit: a "
        "timeout that the sidecar was told of with --idle-cutoff, or several proxies in a row.",
        "mixed",
        holds=config.steady,
        labels={"cutoff": "mixed"},
    )


def _down(config: Config) -> Iterator[Alert]:
    build, draining, up = ours(config, catalogue.BUILD), ours(config, catalogue.DRAINING), ours(config, UP)
    known = f"last_over_time({over(build, config.seconds(config.memory))})"
    stopped = f"last_over_time({over(draining, config.seconds(config.stopped))}) == 1"
    mute = aggregate("count", JOB, f"{up} == 0\nand {on(POD)} {known}\nunless {on(POD)} ({stopped})")
    answering = aggregate("count", JOB, build)
    lately = aggregate("count", JOB, f"last_over_time({over(build, config.seconds(config.gone))})")
    yield Alert(
        "WebSocketSidecarDown",
        f"({mute} or {lately})\nunless {answering}",
        CRITICAL,
        f"{WORKLOAD}: no sidecar answers any more",
        f"{COUNT} sidecars that were known do not answer Prometheus, or are gone, and no other of this job is there. "
        "All traffic passes through them: clients may be cut off, and nothing is counted.",
        holds=config.down_for,
    )
    yield Alert(
        "WebSocketSidecarDown",
        f"{mute}\nand {answering}",
        WARNING,
        f"{WORKLOAD}: {COUNT} of the sidecars do not answer",
        f"{COUNT} sidecars are still discovered and do not answer Prometheus; others of this job do.",
        "some",
        holds=config.down_for,
    )


def _saturated(config: Config) -> Iterator[Alert]:
    name, known = "WebSocketSidecarSaturated", f"and {on(POD)} {ours(config, catalogue.BUILD)}"
    cpu = rate(ours(config, CPU), config.seconds(config.storm_window))
    used = f"{ours(config, OPEN_FDS)} / {ours(config, MAX_FDS)}"
    starved = increase(
        ours(config, catalogue.CONNECT_ERRORS, reason=ConnectError.RESOURCES), config.seconds(config.window)
    )
    for resource, expr, description in (
        (
            "cpu",
            f"{aggregate('max', JOB, f'{cpu} {known}')} > {config.cpu:g}",
            f"The busiest sidecar uses {SHARE} of a core, and has but one thread: above {config.cpu * 100:g} % it "
            "delays traffic.",
        ),
        (
            "descriptors",
            f"{aggregate('max', JOB, f'{used} {known}')} > {config.descriptors:g}",
            f"A sidecar has {SHARE} of its file descriptors open, above {config.descriptors * 100:g} %. At the limit "
            "it cannot accept connections. A session needs two.",
        ),
        (
            "connections",
            f"{sum_by(JOB, starved)} >= {config.least}",
            f"{COUNT} times in {duration(config.window)} a sidecar lacked file descriptors, memory or ports to connect "
            "to the app.",
        ),
    ):
        yield Alert(
            name,
            expr,
            WARNING,
            f"{WORKLOAD}: a sidecar is short of {resource if resource != 'connections' else 'resources'}",
            description,
            resource,
            holds=config.steady,
            labels={"resource": resource},
        )
