"""PromQL of the panels, with Grafana's variables in it.

Every function takes metrics from the catalogue and returns one expression. Selectors match the dashboards' variables
for the labels that the metric has; an unknown label raises an error. Rates of closes are per minute, over
``$__rate_interval``, which Grafana keeps at four scrapes or more. ``$__range`` is the time picker's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.observe.catalogue import BUILD, CLOSED, Metric
from exporter.protocol.enums import Peer
from grafana.source import promql
from grafana.source.config import EXPECTED, FAULTS, NOT_ABNORMAL
from grafana.source.promql import Foreign, metric, on, one_of, sum_by

POD_LABEL = "pod"

#: Labels of every scraped series, and the dashboards' variables for them. ``pod`` is absent outside Kubernetes, hence
#: the empty alternative.
TARGET = {"namespace": "$namespace", "job": "$job", POD_LABEL: "$pod|", "instance": "$instance"}
ROUTE = {"route": "$route"}

#: Identifies one sidecar in joins.
SIDECAR = tuple(TARGET)


@dataclass(frozen=True, slots=True)
class Not:
    """Matches none of these values."""

    values: tuple[str, ...]

    def matcher(self, label: str) -> str:
        """Return the matcher in PromQL."""
        operator = "!=" if len(self.values) == 1 else "!~"
        return f"{label}{operator}{promql.quoted(promql.one_of(self.values))}"


def series(source: Metric | Foreign, suffix: str = "", **labels: str | Not) -> str:
    """Return a selector that matches the dashboard's variables.

    :param suffix: ``_bucket``, ``_count`` or ``_sum`` of a histogram.
    :param labels: further matchers: a value, several from :func:`one_of`, or :class:`Not`.
    :raises ValueError: for a label that the metric does not have.
    """
    own = source.labels if isinstance(source, Metric) else ()
    if wrong := labels.keys() - {*own, *TARGET}:
        raise ValueError(f"{source.name} has no label {sorted(wrong)}")
    variables = TARGET | (ROUTE if "route" in own else {})
    matchers = [f'{label}=~"{variable}"' for label, variable in variables.items() if label not in labels]
    matchers += [value.matcher(label) for label, value in labels.items() if isinstance(value, Not)]
    plain = {label: str(value) for label, value in labels.items() if not isinstance(value, Not)}
    return metric(source, *matchers, suffix=suffix, **plain)


def recorded(name: str, **labels: str) -> str:
    """Return a selector of a recorded series of services, which has no pod and no instance."""
    variables = ("namespace", "job", "route")
    return metric(name, *(f'{label}=~"{(TARGET | ROUTE)[label]}"' for label in variables), **labels)


def closed(**labels: str | Not) -> str:
    """Return a selector of closes."""
    return series(CLOSED, "", **labels)


def by(labels: Iterable[str], expression: str) -> str:
    """Return the sum by ``labels``, or over everything without any."""
    listed = tuple(labels)
    return sum_by(listed, expression) if listed else f"sum({expression})"


def rate(selector: str) -> str:
    """Return a counter's rate per second."""
    return f"rate({selector}[$__rate_interval])"


def per_second(labels: Iterable[str], selector: str) -> str:
    """Return events per second, by ``labels``."""
    return by(labels, rate(selector))


def per_minute(labels: Iterable[str], selector: str) -> str:
    """Return events per minute, by ``labels``."""
    return f"60 * {per_second(labels, selector)}"


Rate = Callable[[Iterable[str], str], str]


def in_range(labels: Iterable[str], selector: str) -> str:
    """Return events in the time range, by ``labels``; for instant queries."""
    return by(labels, f"increase({selector}[$__range])")


def that_happened(labels: Iterable[str], selector: str, rate: Rate = per_minute) -> str:
    """Return events by ``labels``, without the series that are zero in the whole time range.

    Every route exposes over a hundred series that start at zero; a legend with all of them is of no use.
    """
    labels = tuple(labels)
    happened = by(labels, f"increase({selector}[$__range] @ end())")
    return f"{rate(labels, selector)} and {happened} > 0"


def quantile(share: float, histogram: Metric, labels: Iterable[str] = (), **matchers: str) -> str:
    """Return a quantile of a histogram, by ``labels``."""
    buckets = per_second(("le", *labels), series(histogram, "_bucket", **matchers))
    return f"histogram_quantile({share:g}, {buckets})"


def buckets(histogram: Metric, **matchers: str) -> str:
    """Return observations per bucket and step: a heatmap's input."""
    return by(("le",), f"increase({series(histogram, '_bucket', **matchers)}[$__rate_interval])")


def share(part: str, whole: str) -> str:
    """Return the share of ``part`` in ``whole``, two selectors of counters; no value without events."""
    return f"{per_second((), part)} / ({per_second((), whole)} > 0)"


def of_sidecars(expression: str) -> str:
    """Keep process metrics of sidecars only: the app may export its own under the same job."""
    return f"{expression} and {on(SIDECAR)} {series(BUILD)}"


def by_server(**labels: str | Not) -> str:
    """Return a selector of closes that the app initiated."""
    return closed(**labels, initiator=Peer.SERVER)


def server_faults() -> str:
    """Return a selector of closes that count against the app's objective."""
    return by_server(cause=one_of(FAULTS))


def expected() -> str:
    """Return a selector of closes that a rollout, a leaving browser, a proxy or a setting explains."""
    return closed(cause=one_of(EXPECTED))


def abnormal() -> str:
    """Return a selector of closes that the log and the page call abnormal."""
    return closed(cause=Not(NOT_ABNORMAL))


__all__ = [
    "POD_LABEL", "SIDECAR", "Not", "Rate", "abnormal", "buckets", "by", "by_server", "closed", "expected", "in_range",
    "of_sidecars", "on", "one_of", "per_minute", "per_second", "quantile", "rate", "recorded", "series",
    "server_faults", "share", "that_happened",
]  # fmt: skip
