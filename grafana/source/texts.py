"""The words of an alert, as templates of Prometheus: who, how many, since when, which pods, the first thing to do.

Grafana's templates are nearly the same, less ``query``: texts that need it are left out there.
"""

from __future__ import annotations

from collections.abc import Iterable

from grafana.source.promql import SERVICE, quoted

#: Labels of a service, as a query in a template matches them; ``%s`` is where their values go.
OF_SERVICE = ",".join(f"{label}='%s'" for label in SERVICE)
OF_WORKLOAD = f"{OF_SERVICE},controller='%s'"
OF_JOB = "namespace='%s',job='%s'"

#: Outside Kubernetes there is neither namespace nor controller.
WORKLOAD = (
    "{{ with $labels.namespace }}{{ . }}/{{ end }}"
    "{{ if $labels.controller }}{{ $labels.controller }}{{ else }}{{ $labels.job }}{{ end }}"
)
ROUTE = '{{ if eq $labels.route "all" }}all routes{{ else }}route {{ $labels.route }}{{ end }}'
WHO = f"{WORKLOAD}, {ROUTE}"

NUMBER = '{{ printf "%.0f" $value }}'


def span(seconds: float) -> str:
    """Return a duration for people: ``10 min``, ``1 h``, ``3 days``."""
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        count, rest = divmod(seconds, size)
        if count and not rest:
            return f"{count:g} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{seconds:g} s"


def many(one: str, more: str = "") -> str:
    """Return ``1 session`` or ``44 sessions``; ``more`` is the plural that is not ``one`` with an s."""
    return f'{NUMBER} {{{{ if eq (printf "%.0f" $value) "1" }}}}{one}{{{{ else }}}}{more or one + "s"}{{{{ end }}}}'


def asked(query: str, labels: Iterable[str], found: str, otherwise: str = "") -> str:
    """Return a template that runs ``query``, with the labels' values for its ``%s``, and prints ``found``."""
    values = " ".join(f"$labels.{label}" for label in labels)
    missing = f"{{{{ else }}}}{otherwise}" if otherwise else ""
    return f"{{{{ with printf {quoted(query)} {values} | query }}}}{found}{missing}{{{{ end }}}}"


def count(query: str, labels: Iterable[str], otherwise: str = "unknown") -> str:
    """Return the result of a query as a whole number."""
    return asked(query, labels, '{{ . | first | value | printf "%.0f" }}', otherwise)


def percent(query: str, labels: Iterable[str]) -> str:
    """Return the result of a query as a percentage, such as ``2.1 %``."""
    return asked(query, labels, '{{ . | first | value | printf "%.1f" }} %', "an unknown share")


def pods(query: str, labels: Iterable[str]) -> str:
    """Return the pods that a query finds, each with its number if there is one: ``chat-a (30), chat-b (14)``."""
    name = "{{ if .Labels.pod }}{{ .Labels.pod }}{{ else }}{{ .Labels.instance }}{{ end }}"
    number = '{{ if .Value }} ({{ .Value | printf "%.0f" }}){{ end }}'
    one = f"{{{{ if $i }}}}, {{{{ end }}}}{name}{number}"
    return asked(query, labels, f"{{{{ range $i, $s := . }}}}{{{{ with $s }}}}{one}{{{{ end }}}}{{{{ end }}}}", "none")


def since(alert: str, labels: Iterable[str], fixed: str, began: float) -> str:
    """Return the time at which the alert's cause began.

    :param labels: those that its expression keeps.
    :param fixed: matchers of the labels that the rule adds.
    :param began: seconds before the alert was active.
    """
    before = f" - {began:g}" if began else ""
    chosen = ",".join([f"alertname='{alert}'", fixed, *(f"{label}='%s'" for label in labels)])
    clock = '{{ (. | first | value | toTime).UTC.Format "15:04" }} UTC'
    now = f'{{{{ with query "vector(time(){before})" }}}}{clock}{{{{ end }}}}'
    return f"Since {asked(f'ALERTS_FOR_STATE{{{chosen}}}{before}', labels, clock, now)}."


def dashboard(grafana_url: str, uid: str, labels: Iterable[str]) -> str:
    """Return a link to a dashboard that shows the last hour of the alert's service."""
    variables = "".join(
        f"{{{{ with $labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}" for label in labels
    )
    return f"{grafana_url.rstrip('/')}/d/{uid}?from=now-1h&to=now{variables}"


__all__ = [
    "NUMBER", "OF_JOB", "OF_SERVICE", "OF_WORKLOAD", "ROUTE", "WHO", "WORKLOAD", "asked", "count", "dashboard", "many",
    "percent", "pods", "since", "span",
]  # fmt: skip
