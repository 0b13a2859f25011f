"""Recording rules, named ``level:metric:operation``: what the alerts compare and the dashboards may draw.

How it works
============
**Pods that stay.** What an app's ordinary stop causes must not page: hypercorn sends 1011 on SIGTERM, Node's ``ws``
just drops. So an ending counts for an alert only once it is ``settle`` old (2 minutes) and its pod is still discovered
and answered a scrape a moment ago: a pod that stopped has taken its burst with it. A pod that drains is there for
longer: it is forgiven its worst ``drain_burst`` (3 minutes), and what exceeds that is a wave that goes on, no stop's
burst. Handshakes of draining pods do not count at all: to refuse them is what a drain is.

This is judged pod by pod. A ``for`` on the sum would not do: in a rolling deploy of twenty pods there is always one
that has just sent its burst.

**The recent normal** of a count is the mean of the same, already cleaned, count over the *calm* part of the hour
before. So a deploy's bursts do not raise it, and the bug that the deploy brought stands out against it. Nor does the
bug: while a spike lasts nothing is calm, and the normal from before holds, for ``hold`` (8 hours) at most. Without a
spike it follows the day's traffic, as a quantile over a day would not. Three series read each other's past:

    calm    what was counted a window ago, unless there was a spike since
    normal  the mean of calm; in a spike, what it last was
    spike   where the count is well above normal; its value is the time since when

**A service that is new** (or is newly watched) is not judged before its counts span two windows: until then one that
always has a thousand errors a minute looks like one that goes from none to a thousand, and the burn rates, which need
no normal, say which is worth a page. The exception: one that was seen for some minutes without any error has a normal
of none, so that its first burst is a spike.

**Burn rates** are ratios of sums over the recorded rates, so that quiet hours weigh little; ``sum_over_time *
interval`` is the number of events, which the least counts look at: each group of rules names its interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.observe import catalogue
from exporter.observe.catalogue import IDLE_BEFORE_DROP, IDLE_BUCKETS, RECONNECT_BUCKETS, RECONNECT_DELAY
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS
from grafana.source.config import FAULTS, Config, ConfigError
from grafana.source.promql import (
    JOB,
    POD,
    SERVICE,
    UP,
    Foreign,
    aggregate,
    bound,
    duration,
    increase,
    metric,
    on,
    one_of,
    over,
    rate,
    sum_by,
)

_SERVICE = "_".join(SERVICE)
_PER_POD = (*POD, "route", "cause")

#: Causes that are judged together: 1006 from a living app (TCP ended and nobody knows why), 1001 and 1012; and those
#: that are judged each for itself.
DROPPED = (Cause.CONNECTION_LOST, Cause.CONNECTION_RESET)
LEAVING = (Cause.GOING_AWAY, Cause.SERVICE_RESTART)
ALONE = (Cause.INTERNAL_ERROR, Cause.PING_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording rule. ``about`` is for people; it becomes the rule's comment and the docs' table."""

    record: str
    expr: str
    about: str
    labels: dict[str, str] = field(default_factory=dict)


# -- names; windows in them are the configured ones, not scaled --


def staying_closes(config: Config) -> str:
    """Endings by the server, of pods that stay, by cause."""
    return f"{_SERVICE}_cause:websocket_staying_closes:increase{duration(config.window)}"


def staying_closes_normal(config: Config) -> str:
    """What the former usually is."""
    return f"{_SERVICE}_cause:websocket_staying_closes:normal{duration(config.normal)}"


def calm_closes(config: Config) -> str:
    """What was counted a window ago, if there was no spike since."""
    return f"{_SERVICE}_cause:websocket_staying_closes:calm{duration(config.window)}"


def spike(config: Config) -> str:
    """When the spike began that is going on; a Unix time, only where there is one."""
    return f"{_SERVICE}_cause:websocket_staying_closes:spike{duration(config.window)}"


def draining_burst(config: Config) -> str:
    """Endings by the server, of a pod that drains, within the time of a burst."""
    return f"{'_'.join(_PER_POD)}:websocket_draining_closes:increase{duration(config.drain_burst)}"


def faults_rate(config: Config) -> str:
    """Endings a second that count against the server's objective."""
    return f"{_SERVICE}:websocket_faults:rate{duration(config.rate_window)}"


def endings_rate(config: Config) -> str:
    """All endings a second."""
    return f"{_SERVICE}:websocket_endings:rate{duration(config.rate_window)}"


def fault_ratio(window: float) -> str:
    """Share of endings that count against the objective."""
    return f"{_SERVICE}:websocket_faults:ratio{duration(window)}"


def fault_count(window: float) -> str:
    """Number of endings that count against the objective."""
    return f"{_SERVICE}:websocket_faults:count{duration(window)}"


def handshakes(config: Config) -> str:
    """Handshakes by class of status, of pods that stay."""
    return f"{_SERVICE}_class:websocket_staying_handshakes:increase{duration(config.window)}"


def handshakes_lately(config: Config) -> str:
    """Handshakes of all pods, whatever came of them."""
    return f"{_SERVICE}:websocket_handshakes:increase{duration(config.storm_window)}"


def closes_lately(config: Config) -> str:
    """Endings of all pods, whoever began them."""
    return f"{_SERVICE}:websocket_endings:increase{duration(config.window)}"


def handshakes_over_normal(config: Config) -> str:
    """Handshakes, in multiples of their recent normal."""
    return f"{_SERVICE}:websocket_handshakes:over_normal{duration(config.storm_window)}"


def immediate_returns(config: Config) -> str:
    """Share of recognised returning clients that did not wait."""
    return f"{_SERVICE}:websocket_immediate_returns:ratio{duration(config.storm_window)}"


def storm_factor(config: Config) -> str:
    """Immediate returns, in multiples of the normal number of handshakes."""
    return f"{_SERVICE}:websocket_reconnect_storm:factor{duration(config.storm_window)}"


def idle_drops(config: Config) -> str:
    """Endings without a Close at a known idle cut-off."""
    return f"{_SERVICE}_cutoff:websocket_idle_drops:increase{duration(config.idle_window)}"


def pods_changing(config: Config) -> str:
    """Pods that were draining, went or came lately: a deploy, or scaling."""
    return f"{'_'.join(JOB)}:websocket_pods_changing:count{duration(config.deploy)}"


# -- pieces --


def ours(config: Config, what: catalogue.Metric | Foreign, *matchers: str, suffix: str = "", **labels: str) -> str:
    """A selector with the configured job selector in it."""
    return metric(what, config.job_selector, *matchers, suffix=suffix, **labels)


def _there(config: Config) -> str:
    """Pods that are discovered and answered a moment ago."""
    up = ours(config, UP)
    return f"(max_over_time({over(up, config.seconds(config.answered))}) == 1 and {up})"


def _draining(config: Config, window: float) -> str:
    """Pods that drained at some time in a window whose endings have settled."""
    return f"max_over_time({over(ours(config, catalogue.DRAINING), config.seconds(window + config.settle))}) == 1"


def staying(config: Config, counter: str, window: float) -> str:
    """``counter``, an expression with pod labels over ``window``, of the pods that are there and did not drain."""
    return f"{counter}\nand {on(POD)} {_there(config)}\nunless {on(POD)} ({_draining(config, window)})"


def lasting(config: Config, closed: str, window: float, **labels: str) -> str:
    """Endings by pod, route and cause within ``window``, of the pods that are there, less a draining pod's burst.

    :param closed: a selector of the counter of endings.
    :param labels: the same choice of causes, for the recorded bursts.
    """
    counted = sum_by(_PER_POD, increase(closed, config.seconds(window), config.seconds(config.settle)))
    bursts = over(metric(draining_burst(config), **labels), config.seconds(window + config.drain_burst))
    return f"(\n  clamp_min({counted} - max_over_time({bursts}), 0)\n  or {counted}\n)\nand {on(POD)} {_there(config)}"


# -- the rules --


def rules(config: Config) -> list[Recording]:
    """Every recording rule, in an order in which each finds what it reads."""
    return [*_closes(config), *_burn(config), *_handshakes(config), *_storm(config), *_idle(config), *_pods(config)]


def _closes(config: Config) -> Iterator[Recording]:
    closed = ours(config, catalogue.CLOSED, initiator=Peer.SERVER)
    burst, settle = config.seconds(config.drain_burst), config.seconds(config.settle)
    by = (*SERVICE, "cause")
    yield Recording(
        draining_burst(config),
        f"{sum_by(_PER_POD, increase(closed, burst, settle))}\nand {on(POD)} ({_draining(config, config.window)})",
        "Endings begun by the server within the time of a burst, of pods that drain.",
    )
    yield Recording(
        staying_closes(config),
        sum_by(by, lasting(config, closed, config.window)),
        "Endings begun by the server, by cause, of pods that stay, and of those that drain less one burst.",
    )
    yield from _normal(config)
    yield Recording(
        spike(config),
        "\nor\n".join(_spike(config, *group) for group in ((ALONE, by), (DROPPED, SERVICE), (LEAVING, SERVICE))),
        "Since when a cause is well above its normal; those that mean the same are judged together.",
    )


def _normal(config: Config) -> Iterator[Recording]:
    closed = ours(config, catalogue.CLOSED, initiator=Peer.SERVER)
    window, settle, normal = map(config.seconds, (config.window, config.settle, config.normal))
    noticed, unblemished = config.seconds(config.noticed), config.seconds(config.unblemished)
    by = (*SERVICE, "cause")
    now, calm, usual = staying_closes(config), calm_closes(config), staying_closes_normal(config)
    since = f"last_over_time({over(spike(config), window)})"

    def seen(ago: float) -> str:
        return f"and {on(SERVICE)} {ours(config, catalogue.HANDSHAKES)} offset {duration(ago)}"

    yield Recording(
        calm,
        f"{now} offset {duration(window)}\n{seen(2 * window + settle)}\nunless {since}",
        "What was counted a window ago, of services that had been seen for a window then, if there was no spike since.",
    )
    yield Recording(
        usual,
        f"(avg_over_time({over(calm, normal)}) unless {since})\n"
        f"or ({now} * 0 + last_over_time({over(usual, normal)})\n"
        f"  unless time() - {since} > {config.seconds(config.hold):g})\n"
        f"or ({now} * 0 + {sum_by(by, increase(closed, window, window + settle))} {seen(2 * window + settle)})\n"
        f"or ({now} * 0 {seen(noticed + unblemished)}\n"
        f"  unless {sum_by(by, f'{closed} offset {duration(noticed)}')} > 0)",
        "The recent normal: the mean of the calm part of the time before; in a spike, what it was before it; with no "
        "such history, the raw counter's window before; none for a new service that has had none.",
    )


def _spike(config: Config, causes: tuple[Cause, ...], grouped: tuple[str, ...]) -> str:
    """Well above the recent normal, by a factor and beyond chance (a count varies by its square root), and not few."""
    chosen = one_of(causes)
    now, began = metric(staying_closes(config), cause=chosen), metric(spike(config), cause=chosen)
    count, normal = sum_by(grouped, now), sum_by(grouped, metric(staying_closes_normal(config), cause=chosen))
    return (
        f"(last_over_time({over(began, config.seconds(config.window))}) or {now} * 0 + time())\n"
        f"and {on(grouped)} (\n"
        f"  {count} >= {config.least}\n"
        f"  > {config.above_normal:g} * {normal}\n"
        f"  + {config.deviations:g} * sqrt({normal})\n"
        ")"
    )


def _burn(config: Config) -> Iterator[Recording]:
    short, settle = config.seconds(config.rate_window), config.seconds(config.settle)
    faulty = ours(config, catalogue.CLOSED, initiator=Peer.SERVER, cause=one_of(FAULTS))
    yield Recording(
        faults_rate(config),
        f"{sum_by(SERVICE, lasting(config, faulty, config.rate_window, cause=one_of(FAULTS)))} / {short:g}",
        "Endings a second that count against the server's objective, of pods that stay, and of those that drain less "
        "one burst.",
    )
    yield Recording(
        endings_rate(config),
        sum_by(SERVICE, rate(ours(config, catalogue.CLOSED), short, settle)),
        "All endings a second, as old as the faults they are compared with.",
    )
    for window in sorted({size for row in config.burn for size in (row.long, row.short)}):
        span = config.seconds(window)
        faults, endings = over(faults_rate(config), span), over(endings_rate(config), span)
        yield Recording(
            fault_ratio(window),
            f"sum_over_time({faults}) / sum_over_time({endings})",
            f"Share of the endings of {duration(window)} that count against the objective.",
        )
    for window in sorted({row.long for row in config.burn}):
        yield Recording(
            fault_count(window),
            f"sum_over_time({over(faults_rate(config), config.seconds(window))}) * {config.seconds(config.interval):g}",
            f"Number of endings within {duration(window)} that count against the objective.",
        )


#: Classes of handshake that alerts tell apart: a matcher for the status label.
HANDSHAKE_CLASSES = {
    "all": "",
    "failed": 'status=~"5.."',
    "refused": 'status=~"4..|aborted"',
}


def _handshakes(config: Config) -> Iterator[Recording]:
    window, settle = config.seconds(config.window), config.seconds(config.settle)
    for name, matcher in HANDSHAKE_CLASSES.items():
        selector = ours(config, catalogue.HANDSHAKES, matcher)
        yield Recording(
            handshakes(config),
            sum_by(SERVICE, staying(config, increase(selector, window, settle), config.window)),
            f"Handshakes of pods that stay: {name}.",
            {"class": name},
        )


def _storm(config: Config) -> Iterator[Recording]:
    if config.immediate not in RECONNECT_BUCKETS:
        raise ConfigError(f"immediate: {config.immediate:g} is no bound of the histogram: {RECONNECT_BUCKETS}")
    window, normal = config.seconds(config.storm_window), config.seconds(config.normal)
    before = config.seconds(config.window)
    yield Recording(
        handshakes_lately(config),
        sum_by(SERVICE, increase(ours(config, catalogue.HANDSHAKES), window)),
        "Handshakes of all pods.",
    )
    yield Recording(
        closes_lately(config),
        sum_by(SERVICE, increase(ours(config, catalogue.CLOSED), before)),
        "Endings of all pods.",
    )
    asked = handshakes_lately(config)
    usual = f"avg_over_time({over(asked, normal, before)})"
    floor = f"{config.storm_least / config.storm_factor:.6g}"
    yield Recording(
        handshakes_over_normal(config),
        f"{asked}\n/ clamp_min({usual}, {floor})\nand {asked} offset {duration(normal / 2)}",
        "Handshakes in multiples of their recent normal; few handshakes are a normal of a few, and a service that is "
        "new has none.",
    )
    quick = ours(config, RECONNECT_DELAY, suffix="_bucket", le=bound(config.immediate))
    every = ours(config, RECONNECT_DELAY, suffix="_count")
    yield Recording(
        immediate_returns(config),
        f"{sum_by(SERVICE, increase(quick, window))}\n"
        f"/ ({sum_by(SERVICE, increase(every, window))} >= {config.recognised})",
        f"Share of recognised returning clients that came back within {config.immediate:g} s.",
    )
    yield Recording(
        storm_factor(config),
        f"{handshakes_over_normal(config)} * {immediate_returns(config)}\nor {handshakes_over_normal(config)}",
        "Immediate returns in multiples of the normal number of handshakes; where too few clients are recognised (they "
        "return to other pods), every handshake is taken for one.",
    )


def _idle(config: Config) -> Iterator[Recording]:
    for cutoff, culprit in KNOWN_CUTOFFS.items():
        upper = min(edge for edge in IDLE_BUCKETS if edge > cutoff)
        lower = max(edge for edge in IDLE_BUCKETS if edge < cutoff)
        high, low = (
            sum_by(
                SERVICE,
                increase(
                    ours(config, IDLE_BEFORE_DROP, suffix="_bucket", le=bound(edge)), config.seconds(config.idle_window)
                ),
            )
            for edge in (upper, lower)
        )
        yield Recording(
            idle_drops(config),
            f"{high}\n- {low}",
            f"Endings without a Close after {cutoff:g} s of silence, {upper - cutoff:g} s more or less.",
            {"cutoff": f"{cutoff:g}s", "culprit": culprit},
        )


def _pods(config: Config) -> Iterator[Recording]:
    draining, up = ours(config, catalogue.DRAINING), ours(config, UP)
    span = config.seconds(config.deploy)
    earlier = f"last_over_time({over(draining, config.seconds(config.rate_window), span)})"
    changing = (
        f"max_over_time({over(draining, span)}) == 1\n"
        f"or (last_over_time({over(draining, span)}) unless {on(POD)} {up})\n"
        f"or ({draining} unless {on(POD)} {earlier})"
    )
    yield Recording(
        pods_changing(config),
        aggregate("count", JOB, changing),
        "Pods that were draining, went or came within this time: a deploy, or scaling.",
    )
