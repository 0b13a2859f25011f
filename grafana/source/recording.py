"""Recording rules, named ``level:metric:operation``: what the alerts compare and the dashboards may draw.

How it works
============
**Pods that stay.** What an app's ordinary stop causes must not page: hypercorn sends 1011 on SIGTERM, Node's ``ws``
just drops. So an ending counts for an alert only once it is ``settle`` old (2 minutes) and its pod

- is still discovered and answered a scrape a moment ago: a pod that stopped has taken its burst with it; and
- has not been draining in that time, unless the drain has gone on for so long that the whole window lies behind its
  first minute: a wave that goes on is no stop's burst.

This is judged pod by pod. A ``for`` on the sum would not do: in a rolling deploy of twenty pods there is always one
that has just sent its burst.

**The recent normal** of a count is the mean of the same, already cleaned, count over the hour before. So a deploy's
bursts do not raise it, and the bug that the deploy brought stands out against it. Before there is such a history, the
raw counter stands in; for a service that is new there is none, and its normal is zero.

**Burn rates** are ratios of sums over the recorded rates, so that quiet hours weigh little; ``sum_over_time *
interval`` is the number of events, which the least counts look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.observe import catalogue
from exporter.observe.catalogue import IDLE_BEFORE_DROP, IDLE_BUCKETS, RECONNECT_BUCKETS, RECONNECT_DELAY
from exporter.protocol.idle import KNOWN_CUTOFFS
from exporter.protocol.words import Cause, Peer
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


def staying(config: Config, counter: str, window: float) -> str:
    """``counter``, an expression with pod labels over ``window``, of the pods that stay (see the module's text)."""
    draining = ours(config, catalogue.DRAINING)
    up = ours(config, UP)
    span = config.seconds(window + config.settle)
    longer = config.seconds(window + config.settle + config.drain_burst)
    return (
        f"{counter}\n"
        f"and {on(POD)} (max_over_time({over(up, config.seconds(config.answered))}) == 1 and {up})\n"
        f"unless {on(POD)} (\n"
        f"  max_over_time({over(draining, span)}) == 1\n"
        f"  unless min_over_time({over(draining, longer)}) == 1\n"
        ")"
    )


# -- the rules --


def rules(config: Config) -> list[Recording]:
    """Every recording rule, in an order in which each finds what it reads."""
    return [*_closes(config), *_burn(config), *_handshakes(config), *_storm(config), *_idle(config), *_pods(config)]


def _closes(config: Config) -> Iterator[Recording]:
    closed = ours(config, catalogue.CLOSED, initiator=Peer.SERVER)
    window, settle, normal = map(config.seconds, (config.window, config.settle, config.normal))
    by = (*SERVICE, "cause")
    yield Recording(
        staying_closes(config),
        sum_by(by, staying(config, increase(closed, window, settle), config.window)),
        "Endings begun by the server, by cause, of pods that stay.",
    )
    raw = sum_by(by, increase(closed, normal, window + settle))
    yield Recording(
        staying_closes_normal(config),
        f"avg_over_time({over(staying_closes(config), normal, window)})\n"
        f"or {raw} * {config.window / config.normal:.6g}\n"
        f"or {staying_closes(config)} * 0",
        "The recent normal of the former: its mean over the time before.",
    )


def _burn(config: Config) -> Iterator[Recording]:
    short, settle = config.seconds(config.rate_window), config.seconds(config.settle)
    faulty = ours(config, catalogue.CLOSED, initiator=Peer.SERVER, cause=one_of(FAULTS))
    yield Recording(
        faults_rate(config),
        sum_by(SERVICE, staying(config, rate(faulty, short, settle), config.rate_window)),
        "Endings a second that count against the server's objective, of pods that stay.",
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


#: Causes for which 1006 from the server means that a living app dropped the connection.
DROPPED = (Cause.CONNECTION_LOST, Cause.CONNECTION_RESET)
