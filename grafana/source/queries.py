"""The named PromQL of the panels, with Grafana's variables in it.

Every function takes metrics from the catalogue and returns one expression. Selectors carry the dashboards' variables
for the labels that the metric has; a label that it does not have is an error here and not an empty panel there.
Rates are per minute, because on-call people count errors by the minute, over ``$__rate_interval``, which Grafana
keeps at four scrapes or more. ``$__range`` is what the time picker shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.observe.catalogue import BUILD, CLOSED, Metric
from exporter.protocol.enums import Cause, Peer
from grafana.source import promql
from grafana.source.promql import Foreign, metric, on, one_of, sum_by
from grafana.source.recording_rules import DROPPED

#: What a service discovery adds to every series, and the dashboards' variable for it. ``pod`` comes with PodMonitors.
TARGET = {"namespace": "$namespace", "job": "$workload", "instance": "$instance"}
ROUTE = {"route": "$route"}
POD_LABEL = "pod"

#: Identifies one sidecar: joins on it.
SIDECAR = tuple(TARGET)

#: Endings that a deploy, a scale-down or a leaving browser explains.
WEATHER = (Cause.GOING_AWAY, Cause.SERVICE_RESTART, Cause.DRAIN)
#: What a person need not look into: a normal ending, weather, and what the sidecar did on purpose.
EXPECTED = (*(cause for cause in Cause if cause.is_normal), Cause.SERVICE_RESTART, Cause.DRAIN, Cause.LIMIT)


@dataclass(frozen=True, slots=True)
class Not:
    """Matches none of these values."""

    values: tuple[str, ...]

    def matcher(self, label: str) -> str:
        """As PromQL writes it."""
        operator = "!=" if len(self.values) == 1 else "!~"
        return f"{label}{operator}{promql.quoted(promql.one_of(self.values))}"


def series(what: Metric | Foreign, suffix: str = "", **labels: str | Not) -> str:
    """A selector within the dashboard's variables.

    :param suffix: ``_bucket``, ``_count`` or ``_sum`` of a histogram.
    :param labels: what else must match: a value, several from :func:`one_of`, or :class:`Not`.
    :raises ValueError: for a label that the metric does not have.
    """
    own = what.labels if isinstance(what, Metric) else ()
    if wrong := labels.keys() - {*own, *TARGET}:
        raise ValueError(f"{what.name} has no label {sorted(wrong)}")
    variables = TARGET | (ROUTE if "route" in own else {})
    matchers = [f'{label}=~"{variable}"' for label, variable in variables.items() if label not in labels]
    matchers += [value.matcher(label) for label, value in labels.items() if isinstance(value, Not)]
    plain = {label: str(value) for label, value in labels.items() if not isinstance(value, Not)}
    return metric(what, *matchers, suffix=suffix, **plain)


def closed(**labels: str | Not) -> str:
    """A selector of endings."""
    return series(CLOSED, "", **labels)


def by(labels: Iterable[str], expression: str) -> str:
    """The sum by ``labels``; over all without any."""
    listed = tuple(labels)
    return sum_by(listed, expression) if listed else f"sum({expression})"


def rate(selector: str) -> str:
    """The rate of a counter, a second."""
    return f"rate({selector}[$__rate_interval])"


def per_second(labels: Iterable[str], selector: str) -> str:
    """Events a second, by ``labels``."""
    return by(labels, rate(selector))


def per_minute(labels: Iterable[str], selector: str) -> str:
    """Events a minute, by ``labels``."""
    return f"60 * {per_second(labels, selector)}"


Pace = Callable[[Iterable[str], str], str]


def in_range(labels: Iterable[str], selector: str) -> str:
    """Events within the time that the dashboard shows, by ``labels``; for instant queries."""
    return by(labels, f"increase({selector}[$__range])")


def that_happened(labels: Iterable[str], selector: str, pace: Pace = per_minute) -> str:
    """Events by ``labels``, without the lines that are zero all over the time that the dashboard shows.

    Series start at zero before anything has happened (a hundred for each route): a legend of them all tells nothing.
    """
    labels = tuple(labels)
    happened = by(labels, f"increase({selector}[$__range] @ end())")
    return f"{pace(labels, selector)} and {happened} > 0"


def quantile(share: float, histogram: Metric, labels: Iterable[str] = (), **matchers: str) -> str:
    """A quantile of a histogram, by ``labels``."""
    buckets = per_second(("le", *labels), series(histogram, "_bucket", **matchers))
    return f"histogram_quantile({share:g}, {buckets})"


def buckets(histogram: Metric, **matchers: str) -> str:
    """How many observations fell into each bucket at a time: a heatmap's input."""
    return by(("le",), f"increase({series(histogram, '_bucket', **matchers)}[$__rate_interval])")


def share(part: str, whole: str) -> str:
    """``part`` in ``whole`` (two selectors of counters), 0 to 1; nothing while nothing happens."""
    return f"{per_second((), part)} / ({per_second((), whole)} > 0)"


def of_sidecars(expression: str) -> str:
    """Process metrics of sidecars only: the app's own may have the same job."""
    return f"{expression} and {on(SIDECAR)} {series(BUILD)}"


def by_server(**labels: str | Not) -> str:
    """Endings that the server began."""
    return closed(**labels, initiator=Peer.SERVER)


def deployed() -> str:
    """Weather that the server or the sidecar began: deploys, scale-downs and restarts."""
    return closed(cause=one_of(WEATHER), initiator=one_of((Peer.SERVER, Peer.PROXY)))


__all__ = [
    "DROPPED", "EXPECTED", "POD_LABEL", "SIDECAR", "WEATHER", "Not", "Pace", "buckets", "by", "by_server", "closed",
    "deployed", "in_range", "of_sidecars", "on", "one_of", "per_minute", "per_second", "quantile", "rate", "series",
    "share", "that_happened",
]  # fmt: skip
