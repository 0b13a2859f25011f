"""Recording rules, named ``level:metric:operation``: the series that alerts and dashboards compare.

How it works
============
**Pods that stay.** The ordinary stop of an app must not page: hypercorn sends 1011 on SIGTERM, Node's ``ws`` ends TCP
with no Close. So a close counts for an alert once it is ``settle`` old (2 minutes), if its pod answers the scrape now:
a pod that stopped has taken its burst with it. A pod that drains stays longer. It is forgiven its worst ``drain_burst``
(3 minutes); closes beyond that are no stop's burst. Where Prometheus was away, the burst is somewhere in the gap, and a
draining pod is forgiven the whole window. Handshakes of draining pods do not count: a drain refuses them. This is
decided per pod, because a rolling deploy of twenty pods has one that has just sent its burst at any time.

**The normal.** ``share`` is the share of the closes of a class in all closes of an hour (``smooth``): over ten minutes
the share of a rare close is mostly none. Its median over ``usual`` (12 hours) and the other closes of now give the
number to expect, or the median of the count itself if that is larger. So the normal follows the day's traffic through
the share, and a median ignores bursts and bugs that last less than half of ``usual``: a spike stands out for 6 hours.
Every series can be plotted; none reads its own past. Without ``samples`` (20) values of the past there is no normal and
no spike; the error budget needs none.

**A controller** is the Deployment, StatefulSet or DaemonSet that a pod's name begins with. Closes are counted per
controller, so that a small one that breaks stands out where several share a job. One that is new (blue-green, canary)
is compared with the usual share of its service.

**The error budget** is a ratio of sums over recorded rates, so that quiet hours weigh little; ``sum_over_time *
interval`` is the number of closes, so each group names its interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.observe import catalogue
from exporter.protocol.enums import Peer
from grafana.source.config import CRASHED, DROPPED, FAULTS, LEAVING, Config
from grafana.source.promql import (
    CONTROLLER,
    POD,
    SERVICE,
    UP,
    Foreign,
    aggregate,
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

_SERVICE = "_".join(SERVICE)
#: Level of the closes: a service, split by controller.
WORKLOAD = (*CONTROLLER, "route")
_WORKLOAD = "_".join(WORKLOAD)
_PER_POD = (*POD, "route", "cause")
_CRASHED_POD = (*CONTROLLER, "pod", "instance", "route")

INTERNAL_ERROR, PING_TIMEOUT, CUT, GOING_AWAY = "internal-error", "ping-timeout", "dropped", "leaving"

#: Classes of closes by the server that are compared with their normal, and the causes in each.
CLASSES: dict[str, tuple[str, ...]] = {
    INTERNAL_ERROR: ("internal-error",),
    PING_TIMEOUT: ("ping-timeout",),
    CUT: DROPPED,
    GOING_AWAY: LEAVING,
}
#: Those of them that page: a short window finds a rise over a large normal sooner.
PAGING = (INTERNAL_ERROR, CUT)


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording rule; ``purpose`` becomes the comment above it."""

    record: str
    expr: str
    purpose: str
    labels: dict[str, str] = field(default_factory=dict)


# -- names; windows in them are the configured ones, not scaled --


def closes(config: Config, window: float | None = None) -> str:
    """Return the query for closes by the server, of pods that stay, by class."""
    return f"{_WORKLOAD}_class:websocket_staying_closes:increase{duration(window or config.window)}"


def endings(config: Config) -> str:
    """Return the query for all closes of pods that stay."""
    return f"{_WORKLOAD}:websocket_staying_closes:increase{duration(config.window)}"


def share(config: Config) -> str:
    """Share of a class in all closes."""
    return f"{_WORKLOAD}_class:websocket_staying_closes:share{duration(config.smooth)}"


def usual_share(config: Config) -> str:
    """Median of the share."""
    return f"{_WORKLOAD}_class:websocket_staying_closes:share_median{duration(config.usual)}"


def usual_closes(config: Config) -> str:
    """Median of the closes."""
    return f"{_WORKLOAD}_class:websocket_staying_closes:median{duration(config.usual)}"


def expected(config: Config) -> str:
    """Return the query for the normal number of closes, for the traffic of now."""
    return f"{_WORKLOAD}_class:websocket_staying_closes:expected{duration(config.window)}"


def draining_burst(config: Config) -> str:
    """Return the query for closes by the server of a draining pod, within the time of a burst."""
    return f"{'_'.join(_PER_POD)}:websocket_draining_closes:increase{duration(config.drain_burst)}"


def crashes(config: Config, window: float | None = None) -> str:
    """Return the query for closes of a pod whose app died under its sessions; only where there are any."""
    return f"{'_'.join(_CRASHED_POD)}:websocket_crash_closes:increase{duration(window or config.window)}"


def faults_rate(config: Config) -> str:
    """Return the query for closes a second that count against the objective."""
    return f"{_SERVICE}:websocket_faults:rate{duration(config.rate_window)}"


def endings_rate(config: Config) -> str:
    """Return the query for all closes a second."""
    return f"{_SERVICE}:websocket_endings:rate{duration(config.rate_window)}"


def handshakes(config: Config) -> str:
    """Return the query for handshakes by class of status, of pods that stay."""
    return f"{_SERVICE}_class:websocket_staying_handshakes:increase{duration(config.window)}"


def handshakes_lately(config: Config) -> str:
    """Return the query for handshakes of all pods."""
    return f"{_SERVICE}:websocket_handshakes:increase{duration(config.storm_window)}"


def closes_lately(config: Config) -> str:
    """Return the query for closes of all pods, by either peer."""
    return f"{_SERVICE}:websocket_endings:increase{duration(config.window)}"


def interruptions(config: Config) -> str:
    """Return the query for closes of all pods, without clients that leave: those after which a client returns."""
    return f"{_SERVICE}:websocket_interruptions:increase{duration(config.window)}"


def pods_changing(config: Config) -> str:
    """Return the query for pods that drained, went or came lately: a rollout, or scaling."""
    return f"{'_'.join(CONTROLLER)}:websocket_pods_changing:count{duration(config.deploy)}"


# -- pieces --


def ours(config: Config, series: catalogue.Metric | Foreign, *matchers: str, suffix: str = "", **labels: str) -> str:
    """Return a selector with the configured job selector in it."""
    return metric(series, config.job_selector, *matchers, suffix=suffix, **labels)


def answering(config: Config) -> str:
    """Return the query for pods that answer the scrape now."""
    return f"({ours(config, UP)} == 1)"


def draining(config: Config, window: float) -> str:
    """Return the query for pods that drained at some time in a window whose closes have settled."""
    return f"(max_over_time({over(ours(config, catalogue.DRAINING), config.seconds(window + config.settle))}) == 1)"


def staying(config: Config, counted: str, window: float) -> str:
    """``counted``, with pod labels, over ``window``: of the pods that answer and did not drain."""
    return f"{counted}\nand {on(POD)} {answering(config)}\nunless {on(POD)} {draining(config, window)}"


def lasting(config: Config, closed: str, window: float, causes: str) -> str:
    """Return the query for closes within ``window``, of the pods that answer, less a draining pod's burst.

    :param closed: a selector of the counter of closes.
    :param causes: its matcher for the cause, for the recorded bursts.
    """
    counted = (
        f"sum by ({', '.join(_PER_POD)}) ({increase(closed, config.seconds(window), config.seconds(config.settle))})"
    )
    bursts = over(metric(draining_burst(config), cause=causes), config.seconds(window + config.drain_burst))
    return (
        f"(\n  clamp_min(\n    {counted}\n    - max_over_time({bursts}),\n    0\n  )\n"
        f"  or\n  {counted}\n)\nand {on(POD)} {answering(config)}"
    )


# -- the rules --


def rules(config: Config) -> list[Recording]:
    """Return every recording rule."""
    return [*closes_rules(config), *normal_rules(config), *budget_rules(config), *handshake_rules(config)]


def closes_rules(config: Config) -> Iterator[Recording]:
    """Return the rules for closes of now, by class, and the number to expect."""
    burst, settle = config.seconds(config.drain_burst), config.seconds(config.settle)
    server = ours(config, catalogue.CLOSED, initiator=Peer.SERVER)
    window = config.seconds(config.window)
    scrapes, before = (
        f"count_over_time({over(ours(config, UP), window, offset)})" for offset in (settle, settle + window)
    )
    missed = f"({scrapes} < 0.8 * {before})"
    counted = f"{increase(server, window, settle)} and {on(POD)} {missed}\nor {increase(server, burst, settle)}"
    yield Recording(
        draining_burst(config),
        f"{sum_by(_PER_POD, counted)}\nand {on(POD)} {draining(config, config.window)}",
        "Closes by the server within the time of a burst, of pods that drain: the part that a stop explains. Where "
        "Prometheus missed scrapes, nobody knows when a burst was: of the whole window.",
    )
    for name, causes in CLASSES.items():
        chosen = one_of(causes)
        closed = ours(config, catalogue.CLOSED, initiator=Peer.SERVER, cause=chosen)
        for window in (config.window, config.short_window) if name in PAGING else (config.window,):
            yield Recording(
                closes(config, window),
                sum_by(WORKLOAD, controlled(lasting(config, closed, window, chosen))),
                f"Closes of class {name} by the server in {duration(window)}, of pods that stay.",
                {"class": name},
            )
    counted = sum_by((*POD, "route"), increase(ours(config, catalogue.CLOSED), config.seconds(config.window), settle))
    yield Recording(
        endings(config),
        sum_by(WORKLOAD, controlled(staying(config, counted, config.window))),
        f"All closes in {duration(config.window)}, of pods that stay.",
    )
    lately, every = (
        f"avg_over_time({over(metric(record), config.seconds(config.smooth))})"
        for record in (closes(config), endings(config))
    )
    yield Recording(
        share(config),
        f"{lately} / {on(WORKLOAD)} group_left () ({every} > 0)",
        f"Share of each class in all closes of {duration(config.smooth)}.",
    )
    others = f"clamp_min({closes(config)} * 0 + {on(WORKLOAD)} group_left () {endings(config)} - {closes(config)}, 0)"
    of_service = aggregate("max", (*SERVICE, "class"), usual_share(config))
    known = f"{usual_share(config)} / (1 - {usual_share(config)}) * {others}"
    inherited = f"{others} * {on((*SERVICE, 'class'))} group_left () ({of_service} / (1 - {of_service}))"
    yield Recording(
        expected(config),
        aggregate(
            "max",
            (*WORKLOAD, "class"),
            f"({known} >= {usual_closes(config)})\nor {usual_closes(config)}\nor {inherited}",
        ),
        "Normal number of closes of each class: its usual share, beside the other closes of now, and at least its "
        "usual number. A controller without a past has the usual share of its service.",
    )
    dead = one_of(CRASHED)
    closed = ours(config, catalogue.CLOSED, initiator=Peer.SERVER, cause=dead)
    for window in (config.window, config.crash_recent):
        yield Recording(
            crashes(config, window),
            f"{sum_by(_CRASHED_POD, controlled(lasting(config, closed, window, dead)))} > 0",
            f"Closes in {duration(window)} of pods whose app died under its sessions; only where there are any.",
        )
    yield Recording(pods_changing(config), _changing(config), "Pods that drained, went or came: a rollout, or scaling.")


def normal_rules(config: Config) -> Iterator[Recording]:
    """Return the rules for the past of share and closes, as medians."""
    for record, source, noun in (
        (usual_share(config), share(config), "share of each class in all closes"),
        (usual_closes(config), closes(config), "number of closes of each class"),
    ):
        past = duration(config.seconds(config.usual))
        # A median of every fourth value is as good, and much cheaper.
        thinned = duration(config.seconds(config.slow_interval))
        yield Recording(
            record,
            f"quantile_over_time(0.5, {source}[{past}:{thinned}])\n"
            f"and count_over_time({source}[{past}]) >= {config.samples}",
            f"Usual {noun}: the median of {duration(config.usual)}.",
        )


def budget_rules(config: Config) -> Iterator[Recording]:
    """Return the rules for rates of faults and of all closes, to be summed over the windows of the error budget."""
    short, settle = config.seconds(config.rate_window), config.seconds(config.settle)
    chosen = one_of(FAULTS)
    faulty = ours(config, catalogue.CLOSED, initiator=Peer.SERVER, cause=chosen)
    yield Recording(
        faults_rate(config),
        f"{sum_by(SERVICE, lasting(config, faulty, config.rate_window, chosen))} / {short:g}",
        "Closes a second that count against the objective, of pods that stay.",
    )
    yield Recording(
        endings_rate(config),
        sum_by(SERVICE, rate(ours(config, catalogue.CLOSED), short, settle)),
        "All closes a second, as old as the faults that they are compared with.",
    )


#: Classes of handshake that alerts compare: a matcher for the status label.
HANDSHAKE_CLASSES = {
    "all": "",
    "failed": 'status=~"5.."',
    "refused": 'status=~"4..|aborted"',
}


#: Causes of a client that ends its session by choice.
BY_CHOICE = ("normal", "going-away", "no-status")


def handshake_rules(config: Config) -> Iterator[Recording]:
    """Return the rules for handshakes of pods that stay, by class, and handshakes and closes of all pods."""
    window, settle = config.seconds(config.window), config.seconds(config.settle)
    for name, matcher in HANDSHAKE_CLASSES.items():
        selector = ours(config, catalogue.HANDSHAKES, matcher)
        yield Recording(
            handshakes(config),
            sum_by(SERVICE, staying(config, increase(selector, window, settle), config.window)),
            f"Handshakes of pods that stay: {name}.",
            {"class": name},
        )
    yield Recording(
        handshakes_lately(config),
        sum_by(SERVICE, increase(ours(config, catalogue.HANDSHAKES), config.seconds(config.storm_window))),
        "Handshakes of all pods, for reconnect storms.",
    )
    others = increase(ours(config, catalogue.CLOSED, f'initiator!="{Peer.CLIENT}"'), window)
    lost = increase(ours(config, catalogue.CLOSED, f'cause!~"{one_of(BY_CHOICE)}"', initiator=Peer.CLIENT), window)
    yield Recording(
        closes_lately(config),
        sum_by(SERVICE, increase(ours(config, catalogue.CLOSED), window)),
        "Closes of all pods, by either peer, for reconnect storms.",
    )
    yield Recording(
        interruptions(config),
        f"sum by ({', '.join(SERVICE)}) (\n  {others}\n  or {lost}\n)",
        "Closes of all pods, without clients that leave, for reconnect storms.",
    )


def _changing(config: Config) -> str:
    drains, up = ours(config, catalogue.DRAINING), ours(config, UP)
    span = config.seconds(config.deploy)
    earlier = f"last_over_time({over(drains, config.seconds(config.rate_window), span)})"
    changing = (
        f"max_over_time({over(drains, span)}) == 1\n"
        f"or (last_over_time({over(drains, span)}) unless {on(POD)} {up})\n"
        f"or ({drains} unless {on(POD)} {earlier})"
    )
    return aggregate("count", CONTROLLER, controlled(changing))
