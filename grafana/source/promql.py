"""PromQL in small pieces: functions that return text. Durations are seconds; names come from the catalogue.

There is no tree and no cleverness: an expression is a string, indented by hand where it is long, and every one of them
is parsed by promtool in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.utils import floatToGoString

from exporter.observe.catalogue import Metric

#: A service; every rule aggregates by it and keeps it. Outside Kubernetes there is no namespace, which matches as well.
SERVICE = ("namespace", "job", "route")
#: One workload, for series without a route.
JOB = ("namespace", "job")
#: The pods of one controller; outside Kubernetes it has no name.
CONTROLLER = ("namespace", "job", "controller")
#: One scraped sidecar. `pod` is absent outside Kubernetes; with it, an address that is used again is another pod.
POD = ("namespace", "job", "pod", "instance")


#: A pod's name: its controller's, the ReplicaSet's hash (Kubernetes' alphabet for random names, or hex), and a random
#: part or an ordinal.
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
POD_NAME = f"(.+?)(?:-(?:{_RANDOM}{{5,10}}|[0-9a-f]{{8}}))?(?:-(?:{_RANDOM}{{5}}|[0-9]+))?"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A metric that is not ours: Prometheus' own, and those that every process exports."""

    name: str


UP = Foreign("up")
CPU = Foreign("process_cpu_seconds_total")
OPEN_FDS = Foreign("process_open_fds")
MAX_FDS = Foreign("process_max_fds")
RESIDENT = Foreign("process_resident_memory_bytes")
START_TIME = Foreign("process_start_time_seconds")


def duration(seconds: float) -> str:
    """``90`` -> ``1m30s``, ``0.5`` -> ``500ms``; whole milliseconds, at least one."""
    left = max(1, round(seconds * 1000))
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def quoted(text: str) -> str:
    """Return a PromQL string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def one_of(values: Iterable[str]) -> str:
    """Return alternatives for :func:`metric`: the matcher becomes ``=~``."""
    return "|".join(values)


def metric(series: Metric | Foreign | str, *matchers: str, suffix: str = "", **labels: str) -> str:
    """Return a selector: ``name{matchers, label="value"}``. A value with ``|`` in it is a list of alternatives.

    :param series: a metric, or the name of a recorded series.
    :param matchers: written out, such as a configured job selector or ``status=~"5.."``.
    :param suffix: ``_bucket``, ``_count`` or ``_sum`` of a histogram.
    """
    name = (series if isinstance(series, str) else series.name) + suffix
    equal = [f"{key}{'=~' if '|' in value else '='}{quoted(value)}" for key, value in labels.items()]
    inside = ", ".join(part for part in (*matchers, *equal) if part)
    return f"{name}{{{inside}}}" if inside else name


def bound(value: float) -> str:
    """Return a histogram's ``le`` as the sidecar writes it: ``62.0``."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def over(selector: str, window: float, offset: float = 0) -> str:
    """Return a range: ``selector[5m] offset 2m``."""
    return f"{selector}[{duration(window)}]" + (f" offset {duration(offset)}" if offset else "")


def rate(selector: str, window: float, offset: float = 0) -> str:
    """Per second, over ``window`` seconds that ended ``offset`` seconds ago."""
    return f"rate({over(selector, window, offset)})"


def increase(selector: str, window: float, offset: float = 0) -> str:
    """Return the query for the increase of a counter."""
    return f"increase({over(selector, window, offset)})"


def sum_by(labels: Iterable[str], expression: str) -> str:
    """``sum by (a, b) (expression)``."""
    return aggregate("sum", labels, expression)


def aggregate(operator: str, labels: Iterable[str], expression: str) -> str:
    """``operator by (a, b) (expression)``; a long expression goes on lines of its own."""
    head = f"{operator} by ({', '.join(labels)})"
    if "\n" not in expression and len(expression) < 130:
        return f"{head} ({expression})"
    return f"{head} (\n{indent(expression)}\n)"


def on(labels: Iterable[str]) -> str:
    """``on (a, b)``."""
    return f"on ({', '.join(labels)})"


def indent(text: str) -> str:
    """Two spaces before every line."""
    return "\n".join("  " + line for line in text.split("\n"))


def controlled(expression: str) -> str:
    """``expression`` with a label ``controller``, read from the pod's name."""
    inside = indent(expression) if "\n" in expression else "  " + expression
    return f'label_replace(\n{inside},\n  "controller", "$1", "pod", {quoted(POD_NAME)}\n)'
