"""The alerts: conditions, severities, texts.

``critical`` pages a person, ``warning`` does not, ``info`` is context. One alert may have several rules, distinguished
by ``variant``: the same trouble in another degree. All aggregate by namespace, job and route, closes by controller too;
those without a route by namespace and job. :mod:`grafana.source.recording_rules` says why none pages for a rollout.

An alert's value is a count, for a text in whole numbers. Prometheus adds the results of queries as the alert fires: the
normal, the pods, the time. Grafana's templates cannot query; its alerts leave these out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.observe import catalogue
from exporter.observe.catalogue import IDLE_BEFORE_DROP, LIFETIME
from exporter.protocol.counters import IDLE_BUCKETS, LIFETIME_BUCKETS, RECONNECT_BUCKETS
from exporter.protocol.enums import Cause, ConnectError
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS
from grafana.source import recording_rules as recording
from grafana.source import texts
from grafana.source.config import CRASHED, DROPPED, FAULTS, KNOWN_AGES, LEAVING, MINUTE, BurnWindow, Config, ConfigError
from grafana.source.promql import (
    CONTROLLER,
    CPU,
    JOB,
    MAX_FDS,
    OPEN_FDS,
    POD,
    SERVICE,
    START_TIME,
    UP,
    aggregate,
    bound,
    controlled,
    duration,
    increase,
    metric,
    on,
    one_of,
    over,
    rate,
    sum_by,
)
from grafana.source.recording_rules import WORKLOAD, ours
from grafana.source.texts import WHO, many

CRITICAL, WARNING = "critical", "warning"

CLOSE_CODES, ONE_POD, FLEET = "websocket-close-codes", "websocket-one-pod", "websocket-fleet"

#: Labels of a service's alerts by which the dashboards find it.
_WHERE = ("namespace", "job", "route")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    :ivar name: names its runbook, too.
    :ivar purpose: the comment above the rule.
    :ivar summary: who and how many; ``compared`` is added to it, with queries in it.
    :ivar meaning: one or two sentences.
    :ivar first: the first thing to do.
    :ivar pods: a query for the pods concerned and a number for each, with ``%s`` for the values of ``by``.
    :ivar by: labels that the expression keeps.
    :ivar variant: distinguishes rules of one name; empty for the only or the gravest one.
    :ivar began: seconds for which its cause must have lasted before the expression holds.
    :ivar holds: seconds for which the expression must hold.
    :ivar keep_firing: seconds for which it goes on firing when the expression no longer holds.
    :ivar fixed: whether ``severities`` leaves its severity alone: a lesser degree, or a row of the error budget.
    :ivar slow: whether it belongs to a group that is evaluated less often.
    """

    name: str
    purpose: str
    expr: str
    severity: str
    summary: str
    meaning: str
    first: str
    by: tuple[str, ...]
    compared: str = ""
    pods: str = ""
    variant: str = ""
    began: float = 0
    holds: float = 0
    keep_firing: float = 0
    labels: dict[str, str] = field(default_factory=dict)
    dashboard: str = CLOSE_CODES
    fixed: bool = False
    slow: bool = False


def alerts(config: Config) -> list[Alert]:
    """Return every alerting rule that is not disabled. ConfigError for a setting that names no alert."""
    every = [*close_alerts(config), *budget_alerts(config), *handshake_alerts(config), *sidecar_alerts(config),
             *cutoff_alerts(config)]  # fmt: skip
    names = {alert.name for alert in every}
    free = {alert.name for alert in every if not alert.fixed}
    for setting, named, known in (("disabled", config.disabled, names), ("severities", config.severities, free)):
        if unknown := sorted(set(named) - known):
            raise ConfigError(f"{setting}: no alert {unknown[0]}; there are {', '.join(sorted(known))}")
    return [alert for alert in every if alert.name not in config.disabled]


def close_alerts(config: Config) -> list[Alert]:
    """Return the alerts about closes by the server, compared with their normal."""
    return [*_internal_errors(config), *_drops(config), *_crashes(config), *_goodbyes(config)]


def budget_alerts(config: Config) -> list[Alert]:
    """Return the alerts about the error budget."""
    return list(_budget(config))


def handshake_alerts(config: Config) -> list[Alert]:
    """Return the alerts about clients that connect."""
    return [*_storm(config), *_handshakes(config)]


def sidecar_alerts(config: Config) -> list[Alert]:
    """Return the alerts about the sidecars themselves."""
    return [*_unobserved(config), *_down(config), *_saturated(config)]


def cutoff_alerts(config: Config) -> list[Alert]:
    """Return the alerts about sessions that something cuts at one idle time or age."""
    return [*_idle(config), *_ages(config)]


# -- closes --


def _logs(pod: str) -> str:
    """Return a command that prints the app's log of the pod with the most such closes; outside Kubernetes, a hint."""
    command = "kubectl -n {{ $labels.namespace }} logs " + pod + " --all-containers --since=15m"
    return f"{{{{ if $labels.namespace }}}}{command}{{{{ else }}}}read the app's log{{{{ end }}}}"


#: A command that lists the pods.
GET_PODS = (
    "{{ if $labels.namespace }}kubectl -n {{ $labels.namespace }} get pods -l app.kubernetes.io/name={{ $labels.job }}"
    "{{ else }}look at the processes{{ end }}"
)

#: The pod of a Deployment that kubectl chooses, where no query can name one.
ANY_POD = "-l app.kubernetes.io/name={{ $labels.job }} --prefix"


def _limit(config: Config, deviations: float, normal: str) -> str:
    return (
        f"{normal}\n+ {deviations:g} * sqrt(\n  {normal}\n  + {config.slack:g}\n"
        f"  + ({config.drift:g} / 100 * {normal}) ^ 2\n)"
    )


def _spike(config: Config, name: str, extra: str = "") -> str:
    """Return the query for closes of a class well above their normal and not few; ``extra``: one more condition."""
    now = metric(recording.closes(config), config.job_selector, **{"class": name})
    normal = metric(recording.expected(config), config.job_selector, **{"class": name})
    limit = _limit(config, config.deviations, normal)
    found = f"{now} >= {config.least:g}\n> {_in(limit)}"
    if name in recording.PAGING:
        short = metric(recording.closes(config, config.short_window), config.job_selector, **{"class": name})
        part = f"{config.short_window / config.window:g} * {normal}"
        found = (
            f"(\n  {_in(found)}\n)\nor (\n"
            f"  {short} >= {config.short_least:g}\n"
            f"  > {_in(_in(_limit(config, config.deviations, part)))}\n"
            f"  and {now}\n  > {_in(_in(_limit(config, config.confirming_deviations, normal)))}\n)"
        )
    lines = found.replace("\n", "\n  ")
    return sum_by(WORKLOAD, f"{now}\nand (\n  {lines}\n){extra}")


def _normal(config: Config, name: str) -> str:
    query = f"sum({recording.expected(config)}{{{texts.OF_WORKLOAD},class='{name}'}})"
    return f"; normal is {texts.count(query, _labels())}"


def _labels() -> tuple[str, ...]:
    """In the order in which :data:`texts.OF_WORKLOAD` takes their values."""
    return (*SERVICE, "controller")


def _pods(config: Config, causes: tuple[str, ...], window: float) -> str:
    """Return the query for the pods with the most closes of these causes."""
    chosen = f"{texts.OF_SERVICE},initiator='server',cause=~'{one_of(causes)}'"
    settled = over(f"{catalogue.CLOSED.name}{{{chosen}}}", config.seconds(window), config.seconds(config.settle))
    return _most(f"increase({settled})")


def _most(numbers: str, least: float = 0.5) -> str:
    return f"sort_desc(topk(3, sum by (pod, instance) ({numbers})) >= {least:g})"


def _internal_errors(config: Config) -> Iterator[Alert]:
    window = texts.span(config.window)
    yield Alert(
        "WebSocketInternalErrorSpike",
        "The app closes sessions with an error of its own, well above the normal: usually a bug in a handler.",
        _spike(config, recording.INTERNAL_ERROR),
        CRITICAL,
        f"{WHO}: {many('session')} ended with 1011 (internal error) in {window}",
        "The app reports an error of its own: 1011, or a private code that means the same.",
        f"Find the exception: {_logs(ANY_POD)}. If a rollout began shortly before, roll it back.",
        WORKLOAD,
        _normal(config, recording.INTERNAL_ERROR),
        _pods(config, ("internal-error",), config.window),
        keep_firing=config.keep_firing,
        labels={"cause": Cause.INTERNAL_ERROR},
    )
    pings = metric(recording.closes(config), config.job_selector, **{"class": recording.PING_TIMEOUT})
    many_of_all = (
        f"\nand {on(WORKLOAD)} (\n  {sum_by(WORKLOAD, pings)}\n"
        f"  > {config.ping_timeouts:g} / 100 * {metric(recording.endings(config), config.job_selector)}\n)"
    )
    yield Alert(
        "WebSocketInternalErrorSpike",
        "The app closes sessions whose clients do not answer pings: a network fails, or the app is too busy to read.",
        _spike(config, recording.PING_TIMEOUT, many_of_all),
        WARNING,
        f"{WHO}: {many('session')} ended with a ping timeout in {window}",
        "No bug in a handler: clients or the network between do not answer, or the app is too busy to read.",
        "Compare the CPU use of the app's pods with an hour ago; if it is as before, look at the clients' network.",
        WORKLOAD,
        _normal(config, recording.PING_TIMEOUT),
        _pods(config, ("ping-timeout",), config.window),
        "ping-timeout",
        fixed=True,
        keep_firing=config.keep_firing,
        labels={"cause": Cause.PING_TIMEOUT},
    )


def _drops(config: Config) -> Iterator[Alert]:
    yield Alert(
        "WebSocketAppDropsConnections",
        "The app ends TCP with no Close frame and goes on accepting: how most ASGI servers end a failed handler.",
        _spike(config, recording.CUT),
        CRITICAL,
        f"{WHO}: the app dropped {many('session')} (1006) in {texts.span(config.window)}",
        "TCP ended with no Close frame while the app went on accepting connections: how most ASGI servers end a "
        "handler that raises.",
        f"Find the exception: {_logs(ANY_POD)}. If a rollout began shortly before, roll it back.",
        WORKLOAD,
        _normal(config, recording.CUT),
        _pods(config, DROPPED, config.window),
        keep_firing=config.keep_firing,
    )


def _crashes(config: Config) -> Iterator[Alert]:
    """Yield the alerts about an app that dies under its sessions: in several pods or repeatedly pages, once warns."""
    died = metric(recording.crashes(config), config.job_selector)
    lately = metric(recording.crashes(config, config.crash_recent), config.job_selector)
    before = f"{died} offset {duration(config.seconds(config.crash_recent + 60))}"
    pods = aggregate("count", WORKLOAD, died)
    build = ours(config, catalogue.BUILD)
    here = aggregate("count", CONTROLLER, controlled(f"{build} and {on(POD)} {recording.answering(config)}"))
    refused = increase(
        ours(config, catalogue.CONNECT_ERRORS, reason=ConnectError.REFUSED), config.seconds(config.crash_recent)
    )
    grave = (
        f"(\n  {pods} >= 2 >= {on(CONTROLLER)} group_left () {config.crashed_pods:g} / 100 * {_in(here)}\n"
        f"  or {_in(aggregate('count', WORKLOAD, f'{lately} and {before}'))}\n"
        f"  or {_in(aggregate('count', WORKLOAD, f'{before} and {on(POD)} ({refused} > 0)'))}\n)"
    )
    lost = sum_by(WORKLOAD, died)
    name, summary = (
        "WebSocketAppDown",
        f"{WHO}: {many('session')} ended because the app died, in {texts.span(config.window)}",
    )
    first = f"{GET_PODS}: look for restarts and OOMKilled, then read the log of the last run (--previous)."
    concerned = _pods(config, CRASHED, config.window)
    yield Alert(
        name,
        "The app dies under its sessions: in several pods, in one again and again, or it does not come back.",
        f"{lost} >= {config.least:g}\nand {on(WORKLOAD)} {grave}",
        CRITICAL,
        summary,
        "The app's process is gone or was replaced, in several pods, repeatedly, or it still refuses connections. "
        "These pods were not stopping.",
        first,
        WORKLOAD,
        "",
        concerned,
        keep_firing=config.keep_firing,
    )
    yield Alert(
        name,
        "One pod's app died once under its sessions and came back.",
        f"{lost} >= {config.least:g}\nunless {on(WORKLOAD)} {grave}",
        WARNING,
        summary,
        "The app's process died once in one pod, and accepts connections again.",
        first,
        WORKLOAD,
        "",
        concerned,
        "once",
        fixed=True,
        labels={"state": "once"},
        keep_firing=config.keep_firing,
    )


def _in(text: str) -> str:
    return text.replace("\n", "\n  ")


def _goodbyes(config: Config) -> Iterator[Alert]:
    changing = metric(recording.pods_changing(config), config.job_selector)
    yield Alert(
        "WebSocketUnexpectedGoingAway",
        "The app closes sessions as if it stopped, and no pod of its controller drains, goes or comes.",
        f"{_spike(config, recording.GOING_AWAY)}\nunless {on(CONTROLLER)} {changing}",
        WARNING,
        f"{WHO}: {many('session')} ended with 1001 or 1012 by the app in {texts.span(config.window)}",
        f"No rollout in progress: no pod of this workload drained, went or came in {texts.span(config.deploy)}. "
        "Something restarts the app inside its pods.",
        f"Find out why the app restarts: {_logs(ANY_POD)}.",
        WORKLOAD,
        _normal(config, recording.GOING_AWAY),
        _pods(config, LEAVING, config.window),
        keep_firing=config.keep_firing,
    )


# -- the error budget --


def _above(config: Config, limit: str, window: float, offset: float = 0) -> str:
    """Return the condition that faults exceed ``limit``, a share of all closes, over a window."""
    faults, every = (
        metric(record, config.job_selector)
        for record in (recording.faults_rate(config), recording.endings_rate(config))
    )
    if window > config.rate_window:
        faults, every = (
            f"sum_over_time({over(rate_, config.seconds(window), config.seconds(offset))})" for rate_ in (faults, every)
        )
    return f"{faults} > {limit} * {every}"


def _faults(config: Config, window: float) -> str:
    """Return the number of faults in a window."""
    total = f"sum_over_time({over(metric(recording.faults_rate(config), config.job_selector), config.seconds(window))})"
    return f"{total} * {config.seconds(config.interval):g}"


def _faulty_share(config: Config, window: float) -> str:
    """Return the query of a text: the percentage of closes that were faults."""
    faults, every = (
        f"sum(sum_over_time({over(f'{record}{{{texts.OF_SERVICE}}}', config.seconds(window))}))"
        for record in (recording.faults_rate(config), recording.endings_rate(config))
    )
    return f"100 * {faults} / {every}"


def _budget(config: Config) -> Iterator[Alert]:
    for row in config.burn:
        yield _burn(config, row)
    long, least = config.quiet_window, config.quiet_least
    yield Alert(
        "WebSocketErrorBudgetBurn",
        "A service with too few closes for the other windows breaks whole.",
        f"{_faults(config, long)} >= {least:g}\nand {_above(config, f'{config.quiet_share:g} / 100', long)}",
        WARNING,
        f"{WHO}: {many('session')} ended by server faults in {texts.span(long)}",
        f"More than {config.quiet_share:g} % of the few closes of this service are faults of the server.",
        "Look at the last reports: port-forward 10011 of a pod and open /closes.",
        SERVICE,
        "",
        _pods(config, FAULTS, long),
        "quiet",
        fixed=True,
        labels={"window": "quiet"},
    )


def _burn(config: Config, row: BurnWindow) -> Alert:
    long, short = duration(row.long), duration(row.short)
    allowed = f"{row.factor:g} * (1 - {config.objective:g} / 100)"
    paging = row.severity == CRITICAL
    ago = config.rate_window + 60 + (row.short if row.short > config.rate_window else 0)
    every = metric(recording.endings_rate(config), config.job_selector)
    history = over(every, config.seconds(row.short), config.seconds(row.long + row.short))
    more = _above(config, allowed, 2 * row.short, ago) if paging else f"last_over_time({history})"
    return Alert(
        "WebSocketErrorBudgetBurn",
        f"The error budget burns {row.factor:g} times faster than the objective allows, over {texts.span(row.long)} "
        f"and still in the last {texts.span(row.short)}."
        + (
            " It burnt before that, too: one burst does not page."
            if paging
            else " The service is older than both, so that the window is full."
        ),
        f"{_faults(config, row.long)} >= {row.least:g}\n"
        f"and {_above(config, allowed, row.long)}\n"
        f"and {_above(config, allowed, row.short)}\nand {more}",
        row.severity,
        f"{WHO}: {many('session')} ended by server faults in {texts.span(row.long)}",
        f"The objective is {config.objective:g} % of closes without a fault of the server. The error budget burns more "
        f"than {row.factor:g} times too fast, over {texts.span(row.long)} and in the last {texts.span(row.short)}.",
        "Open the dashboard and see which cause grows; the runbook of that cause goes on from there.",
        SERVICE,
        f", {texts.percent(_faulty_share(config, row.long), (*SERVICE, *SERVICE))} of all",
        _pods(config, FAULTS, row.long),
        f"{long}/{short}",
        keep_firing=0 if paging else config.keep_ticket,
        fixed=True,
        labels={"window": long},
        slow=row.long >= 86400,
    )


# -- handshakes --


def _storm(config: Config) -> Iterator[Alert]:
    if config.immediate not in RECONNECT_BUCKETS:
        raise ConfigError(f"immediate: {config.immediate:g} is no bound of the histogram: {RECONNECT_BUCKETS}")
    asked = metric(recording.handshakes_lately(config), config.job_selector)
    closed = metric(recording.closes_lately(config), config.job_selector)
    cut = metric(recording.interruptions(config), config.job_selector)
    changing = metric(recording.pods_changing(config), config.job_selector)
    window, normal, before = map(config.seconds, (config.storm_window, config.storm_normal, config.window))
    usual = f"avg_over_time({over(asked, normal, before)})"
    usual_closes = f"avg_over_time({over(closed, normal, before)})"
    usual_cuts = f"avg_over_time({over(cut, normal, before)})"
    sessions = ours(config, catalogue.ACTIVE)
    usual_sessions = sum_by(SERVICE, f"avg_over_time({over(sessions, normal, before)})")
    quick = sum_by(
        SERVICE,
        increase(ours(config, catalogue.RECONNECT_DELAY, suffix="_bucket", le=bound(config.immediate)), window),
    )
    recognised = sum_by(SERVICE, increase(ours(config, catalogue.RECONNECT_DELAY, suffix="_count"), window))
    factor = f"{config.storm_factor:g}"
    usual_text = (
        f"avg_over_time({recording.handshakes_lately(config)}{{{texts.OF_SERVICE}}}"
        f"[{duration(normal)}] offset {duration(before)})"
    )
    yield Alert(
        "WebSocketReconnectStorm",
        "After a wave of closes, clients return without waiting. Silent where few returns are recognised, or where "
        "more sessions are open than before; without the histogram of returns, the number of handshakes decides, while "
        "no pod drains, goes or comes.",
        f"{asked} >= {config.storm_least:g}\n"
        f"and {asked} offset {duration(normal / 2)}\n"
        f"and {asked} > {factor} * {usual}\n"
        f"and {closed} >= {config.storm_least:g}\n"
        f"and {closed} > {factor} * {usual_closes}\n"
        f"and {cut} >= {config.storm_least:g}\n"
        f"and {cut} > {factor} * {usual_cuts}\n"
        f"and (\n"
        f"  {asked} * ({quick} / ({recognised} >= 10)) > {factor} * {usual}\n"
        f"    and {recognised} >= {config.recognised:g} / 100 * {asked}\n"
        f"  or ({asked} unless {recognised} unless {on(JOB)} {changing})\n"
        f")\n"
        f"unless {sum_by(SERVICE, sessions)} > {config.storm_sessions:g} * {usual_sessions}",
        WARNING,
        f"{WHO}: {many('handshake')} in {texts.span(config.storm_window)}",
        "After a wave of closes, clients return at once. They should wait, with exponential backoff and jitter.",
        "Watch the app's CPU use. If it cannot cope, limit connections per second in front of it.",
        SERVICE,
        f"; normal is {texts.count(usual_text, SERVICE)}",
    )


def _handshakes(config: Config) -> Iterator[Alert]:
    every = metric(recording.handshakes(config), config.job_selector, **{"class": "all"})
    window = texts.span(config.window)
    settled = config.seconds(config.window), config.seconds(config.settle)
    total = f"{recording.handshakes(config)}{{{texts.OF_SERVICE},class='all'}}"
    for name, severity, share, least, variant, noun, meaning, first in (
        (
            "failed",
            CRITICAL,
            config.handshake_failures,
            config.least,
            "",
            "failed (5xx)",
            "The app, or the sidecar because it cannot connect to the app, answers with 5xx: clients cannot connect.",
            f"Read the app's log: {_logs(ANY_POD)}.",
        ),
        (
            "refused",
            WARNING,
            config.handshake_refusals,
            config.refusals_least,
            "refused",
            "were refused (4xx) or got no answer",
            "The app refuses clients, or they leave before its answer.",
            "See which status grows on the dashboard: 401 and 403 are credentials, 404 a path, 429 a limit.",
        ),
    ):
        some = metric(recording.handshakes(config), config.job_selector, **{"class": name})
        status = recording.HANDSHAKE_CLASSES[name].replace('"', "'")
        yield Alert(
            "WebSocketHandshakeFailures",
            f"More than {share:g} % of the handshakes {noun}.",
            f"{sum_by(SERVICE, some)} >= {least:g}\n"
            f"and {sum_by(SERVICE, some)} > {share:g} / 100 * {sum_by(SERVICE, every)}",
            severity,
            f"{WHO}: {many('handshake')} {noun} in {window}",
            meaning,
            first,
            SERVICE,
            f", of {texts.count(f'sum({total})', SERVICE)}",
            _most(f"increase({over(f'{catalogue.HANDSHAKES.name}{{{texts.OF_SERVICE},{status}}}', *settled)})"),
            variant=variant,
            fixed=bool(variant),
            labels={"status": name},
            keep_firing=config.keep_firing,
        )


# -- the sidecars --


def _unobserved(config: Config) -> Iterator[Alert]:
    window = config.seconds(config.window)
    lost = sum_by((*JOB, "reason"), increase(ours(config, catalogue.UNOBSERVED), window))
    asked = sum_by(JOB, increase(ours(config, catalogue.HANDSHAKES), window))
    every = f"({asked} + {on(JOB)} {sum_by(JOB, increase(ours(config, catalogue.UNOBSERVED), window))})"
    yield Alert(
        "WebSocketUnobservedTraffic",
        "The sidecar forwards connections that it cannot analyse: their closes are missing from the other alerts.",
        f"{lost} >= {config.least:g}\nand\n{lost}\n  > {on(JOB)} group_left () ({config.unobserved:g} / 100 * {every})",
        WARNING,
        f"{texts.WORKLOAD}: the sidecar could not analyse {many('connection')} in {texts.span(config.window)} "
        "({{ $labels.reason }})",
        f"They are forwarded. They are more than {config.unobserved:g} % of all, and their closes are counted nowhere.",
        "The reason names it: tls and http2 mean that the sidecar stands behind the wrong port.",
        (*JOB, "reason"),
        holds=config.steady,
        dashboard=FLEET,
    )


def _down(config: Config) -> Iterator[Alert]:
    build, draining, up = ours(config, catalogue.BUILD), ours(config, catalogue.DRAINING), ours(config, UP)
    known = f"last_over_time({over(build, config.seconds(config.memory))})"
    stopped = f"last_over_time({over(draining, config.seconds(config.stopped))}) == 1"
    mute = f"{up} == 0\nand {on(POD)} {known}\nunless {on(POD)} ({stopped})"
    # The same pod for all that time, not one after the other.
    mute_for = max(MINUTE, config.down_for - MINUTE)
    long_mute = f"{mute}\nand {on(POD)} (max_over_time({over(up, config.seconds(mute_for))}) == 0)"
    answering = aggregate("count", JOB, build)
    drained = f"last_over_time({over(draining, config.seconds(config.gone))}) == 1"
    gone = f"last_over_time({over(build, config.seconds(config.gone))})\nunless {on(POD)} ({drained})"
    lately = aggregate("count", JOB, gone)
    name, does = "WebSocketSidecarDown", many("sidecar does", "sidecars do")
    first = f"{GET_PODS}: are they there, and ready?"
    silent = f"max by (pod, instance) (up{{{texts.OF_JOB}}} == 0)"
    yield Alert(
        name,
        "No sidecar of a job answers, or all are gone without a drain.",
        f"({aggregate('count', JOB, mute)} or {lately})\nunless {answering}",
        CRITICAL,
        f"{texts.WORKLOAD}: {does} not answer Prometheus, and no other is left",
        "All traffic passes through the sidecars: clients may be cut off, and nothing is counted.",
        first,
        JOB,
        pods=silent,
        holds=config.down_for,
        labels={"state": "all-silent"},
        dashboard=FLEET,
    )
    yield Alert(
        name,
        "Some sidecars of a job are discovered and do not answer.",
        f"{aggregate('count', JOB, long_mute)}\nand {answering}",
        WARNING,
        f"{texts.WORKLOAD}: {does} not answer Prometheus",
        "Other sidecars of this job answer.",
        first,
        JOB,
        pods=silent,
        variant="some",
        fixed=True,
        began=mute_for,
        holds=MINUTE,
        labels={"state": "some-silent"},
        dashboard=FLEET,
    )
    starts = over(f"{START_TIME.name}{{{texts.OF_JOB}}}", config.seconds(config.window))
    started = f"changes({over(ours(config, START_TIME), config.seconds(config.window))})"
    yield Alert(
        name,
        "A sidecar starts again and again: its sessions end, and nobody counts them.",
        aggregate("count", JOB, f"{started} >= {config.restarts:g}\nand {on(POD)} {known}"),
        WARNING,
        f"{texts.WORKLOAD}: {many('sidecar restarts', 'sidecars restart')} again and again",
        f"Each started at least {config.restarts:g} times in {texts.span(config.window)}. The sessions of a sidecar "
        "that is killed end uncounted.",
        first,
        JOB,
        pods=_most(f"changes({starts})", config.restarts),
        variant="restarting",
        fixed=True,
        labels={"state": "restarting"},
        dashboard=FLEET,
    )


def _saturated(config: Config) -> Iterator[Alert]:
    name, known = "WebSocketSidecarSaturated", f"and {on(POD)} {ours(config, catalogue.BUILD)}"
    # A sidecar that does not expose the number of its relays has one, as build_info's value.
    relays = f"({ours(config, catalogue.RELAYS)} or {on(POD)} {ours(config, catalogue.BUILD)})"
    cpu = f"100 * {rate(ours(config, CPU), config.seconds(config.storm_window))} / {on(POD)} {relays}"
    used = f"100 * {ours(config, OPEN_FDS)} / {ours(config, MAX_FDS)} {known}"
    starved = increase(
        ours(config, catalogue.CONNECT_ERRORS, reason=ConnectError.RESOURCES), config.seconds(config.window)
    )
    for resource, expr, summary, meaning, first in (
        (
            "cpu",
            f"{aggregate('max', JOB, cpu)} > {config.cpu:g}",
            f"a sidecar uses {texts.NUMBER} % of a core for each relay",
            f"A relay has one thread: above {config.cpu:g} % of a core it delays traffic.",
            "Add pods, or lower the rate of messages.",
        ),
        (
            "descriptors",
            f"{aggregate('max', JOB, used)} > {config.descriptors:g}",
            f"a sidecar has {texts.NUMBER} % of its file descriptors open",
            "At the limit it accepts no more connections. A session needs two.",
            "Add pods, or raise the limit on open files.",
        ),
        (
            "connections",
            f"{sum_by(JOB, starved)} >= {config.least:g}",
            f"{many('connection')} to the app failed for want of resources in {texts.span(config.window)}",
            "A sidecar ran out of file descriptors, memory or ports.",
            "Add pods, or raise the limit on open files and the memory limit.",
        ),
    ):
        yield Alert(
            name,
            f"A sidecar is short of {resource}.",
            expr,
            WARNING,
            f"{texts.WORKLOAD}: {summary}",
            meaning,
            first,
            JOB,
            variant=resource,
            holds=config.steady,
            labels={"resource": resource},
            dashboard=FLEET,
        )


# -- cut-offs --


def _between(config: Config, histogram: catalogue.Metric, low: float, high: float, by: tuple[str, ...]) -> str:
    """Return the query for observations of the last hour between two bounds."""
    high_, low_ = (
        sum_by(
            by,
            increase(
                ours(config, histogram, 'initiator!="proxy"', suffix="_bucket", le=bound(edge)),
                config.seconds(config.cutoff_window),
            ),
        )
        for edge in (high, low)
    )
    return f"({high_}\n- {low_})"


def _idle_pile(config: Config, cutoff: float, by: tuple[str, ...]) -> str:
    upper = min(edge for edge in IDLE_BUCKETS if edge > cutoff)
    lower = max(edge for edge in IDLE_BUCKETS if edge < cutoff)
    return _between(config, IDLE_BEFORE_DROP, lower, upper, by)


def _idle(config: Config) -> Iterator[Alert]:
    window, share = config.seconds(config.cutoff_window), f"{config.cutoff_share:g} / 100"
    every = sum_by(SERVICE, increase(ours(config, IDLE_BEFORE_DROP, suffix="_count"), window))
    name, ended = "WebSocketIdleCutoff", f"in {texts.span(config.cutoff_window)} ended without a Close frame"
    first = "Send pings more often than that from the app or the clients, or raise the timeout of the culprit."
    for cutoff, culprit in KNOWN_CUTOFFS.items():
        pile = _idle_pile(config, cutoff, SERVICE)
        yield Alert(
            name,
            f"Something cuts sessions that were idle for {cutoff:g} s.",
            f"{pile} >= {config.cutoff_least:g}\nand {pile}\n  > {share} * {every}",
            WARNING,
            f"{WHO}: {many('session')} {ended} after {cutoff:g} s of silence",
            f"More than {config.cutoff_share:g} % of all such closes. Likely culprit: {culprit}.",
            first,
            SERVICE,
            variant=f"{cutoff:g}s",
            holds=config.steady,
            labels={"cutoff": f"{cutoff:g}s", "culprit": culprit},
            slow=True,
        )
    judged = sum_by(SERVICE, increase(ours(config, catalogue.CLOSED, cause=Cause.IDLE_TIMEOUT), window))
    edges = [(max(e for e in IDLE_BUCKETS if e < c), min(e for e in IDLE_BUCKETS if e > c)) for c in KNOWN_CUTOFFS]
    piles = "\n  or ".join(
        f"{_in(_between(config, IDLE_BEFORE_DROP, low, high, SERVICE))} > {share} * {every}" for low, high in edges
    )
    yield Alert(
        name,
        "Something cuts idle sessions, at several idle times or at one that is configured.",
        f"{judged} >= {config.cutoff_least:g}\nunless (\n  {piles}\n)",
        WARNING,
        f"{WHO}: {many('session')} {ended} after a time of silence that is configured as a cut-off",
        "No single cut-off stands out: a timeout given with --idle-cutoff, or several proxies in a row.",
        first,
        SERVICE,
        variant="mixed",
        holds=config.steady,
        labels={"cutoff": "mixed"},
        slow=True,
    )


def _ages(config: Config) -> Iterator[Alert]:
    by = (*SERVICE, "initiator")
    window = config.seconds(config.cutoff_window)
    every = sum_by(by, increase(ours(config, LIFETIME, 'initiator!="proxy"', suffix="_count"), window))
    side = (
        '{{ if eq $labels.initiator "client" }}in front of the sidecar{{ else }}the app, or a proxy between '
        "the sidecar and the app{{ end }}"
    )
    for age, culprit in KNOWN_AGES.items():
        upper = min(edge for edge in LIFETIME_BUCKETS if edge > age)
        lower = max(edge for edge in LIFETIME_BUCKETS if edge < age)
        before = max(edge for edge in LIFETIME_BUCKETS if edge < lower)
        pile = _between(config, LIFETIME, lower, upper, by)
        old = texts.span(age) if age >= 3600 else f"{age:g} s"
        density = config.cutoff_density * (upper - lower) / (lower - before)
        younger = sum_by(
            by, increase(ours(config, LIFETIME, 'initiator!="proxy"', suffix="_bucket", le=bound(lower)), window)
        )
        idle = (
            f"\nunless {_idle_pile(config, age, by)} > {config.cutoff_share:g} / 100 * {pile}"
            if age in KNOWN_CUTOFFS
            else ""
        )
        yield Alert(
            "WebSocketFixedAgeCutoff",
            f"Something ends sessions at an age of {age:g} s, busy or not.",
            f"{pile} >= {config.cutoff_least:g}\n"
            f"and {pile}\n  > {density:.4g} * {_between(config, LIFETIME, before, lower, by)}\n"
            f"and {pile}\n  > {config.cutoff_share:g} / 100 * ({every} - {younger})"
            f"{idle}",
            WARNING,
            f"{WHO}: {many('session')} in {texts.span(config.cutoff_window)} ended at an age of {old}",
            f"Most sessions that reach this age end at it, busy or not. The end comes from {side}. Likely culprit: "
            f"{culprit}.",
            "Raise that limit, or let clients reconnect before it.",
            by,
            variant=f"{age:g}s",
            holds=config.steady,
            labels={"age": f"{age:g}s", "culprit": culprit},
            slow=True,
        )
