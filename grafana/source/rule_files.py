"""The rules as files: Prometheus' rule file, the operator's PrometheusRule, Grafana's alerting provisioning.

All are made from the same lists. Grafana's alerts read the recorded series, so its users load the recording rules alone
into their Prometheus (``grafana/alerts/recording.yaml``) and leave the alerts to Grafana. Groups have no cycles between
them and are evaluated in parallel.
"""

from __future__ import annotations

import hashlib
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from grafana.source import alerts as alerting
from grafana.source import recording_rules as recording
from grafana.source import texts
from grafana.source.alerts import Alert, alerts
from grafana.source.config import Config
from grafana.source.promql import duration
from grafana.source.recording_rules import Recording

HEAD = "# Made by `python -m grafana.source`; change grafana/source/, not this file.\n"

#: Requirements, at a rule file's head.
NEEDS = """\
# Needs Prometheus 2.42 or newer, for keep_firing_for.
# Keep each group's interval: the counts of the error budget are sums times that interval.
"""
GRAFANA_NEEDS = "# Needs the recording rules in Prometheus. Grafana 12 or newer applies keepFiringFor.\n"

#: Labels of ours by which rules of one name are distinguished.
DISTINCT = ("severity", "cause", "state", "status", "window", "resource", "cutoff", "age")

PREFIX = "websocket-exporter."
ALERTS_GROUP = PREFIX + "alerts"


@dataclass(frozen=True, slots=True)
class Group:
    """A group of rules, evaluated one after another: first the recording rules, then the alerts."""

    name: str
    interval: float
    recordings: Sequence[Recording]
    alerts: Sequence[Alert]


def groups(config: Config) -> list[Group]:
    """Return the groups, without disabled alerts."""

    def enabled(found: Sequence[Alert], slow: bool = False) -> list[Alert]:
        return [alert for alert in found if alert.name not in config.disabled and alert.slow is slow]

    alerts(config)  # refuses names that no alert has
    fast, slow = config.interval, config.slow_interval
    budget, cutoffs = alerting.budget_alerts(config), alerting.cutoff_alerts(config)
    made = [
        Group("closes", fast, [*recording.closes_rules(config)], enabled(alerting.close_alerts(config))),
        Group("normal", slow, [*recording.normal_rules(config)], []),
        Group("error-budget", fast, [*recording.budget_rules(config)], enabled(budget)),
        Group("error-budget-slow", slow, [], enabled(budget, slow=True)),
        Group("handshakes", fast, [*recording.handshake_rules(config)], enabled(alerting.handshake_alerts(config))),
        Group("sidecars", fast, [], enabled(alerting.sidecar_alerts(config))),
        Group("cutoffs", slow, [], enabled(cutoffs, slow=True)),
    ]
    return [group for group in made if group.recordings or group.alerts]


def prometheus(config: Config) -> Mapping[str, str]:
    """Return Prometheus' rule files: everything, and the recording rules alone."""
    every = groups(config)
    recordings = [Group(group.name, group.interval, group.recordings, []) for group in every if group.recordings]
    return {
        "grafana/alerts/rules.yaml": HEAD + NEEDS + groups_yaml(every, config),
        "grafana/alerts/recording.yaml": HEAD + NEEDS + groups_yaml(recordings, config),
    }


def prometheus_rule(config: Config) -> Mapping[str, str]:
    """Return the PrometheusRule resource of the Prometheus operator."""
    metadata: dict[str, Any] = {"name": config.resource_name}
    if config.resource_namespace:
        metadata["namespace"] = config.resource_namespace
    metadata["labels"] = dict(config.resource_labels)
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata}
    spec = textwrap.indent(groups_yaml(groups(config), config), "  ")
    return {"grafana/alerts/prometheusrule.yaml": HEAD + NEEDS + to_yaml(head) + "spec:\n" + spec}


def grafana_alerting(config: Config) -> Mapping[str, str]:
    """Return Grafana-managed alerts, ready to import: a folder, a group, no contact point."""
    group = {
        "orgId": 1,
        "name": ALERTS_GROUP,
        "folder": config.folder,
        "interval": duration(max(10, config.seconds(config.interval))),  # Grafana's shortest interval is 10 s
        "rules": [_managed(alert, config) for alert in alerts(config)],
    }
    text = to_yaml({"apiVersion": 1, "groups": [group]})
    return {"grafana/provisioning/alerting/rules.yaml": HEAD + GRAFANA_NEEDS + text}


#: Formats of the command line.
FORMATS = ("prometheus", "recording", "prometheusrule", "grafana")


def formatted(config: Config, kind: str) -> str:
    """Return the rules in one of :data:`FORMATS`, without the remark that a file of the repository begins with."""
    files = {
        "prometheus": (prometheus, "grafana/alerts/rules.yaml"),
        "recording": (prometheus, "grafana/alerts/recording.yaml"),
        "prometheusrule": (prometheus_rule, "grafana/alerts/prometheusrule.yaml"),
        "grafana": (grafana_alerting, "grafana/provisioning/alerting/rules.yaml"),
    }
    make, path = files[kind]
    return make(config)[path].removeprefix(HEAD)


def to_yaml(document: object) -> str:
    """Return YAML with long and many-line texts as blocks."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(_blocks(document), out)
    return out.getvalue()


def _blocks(value: object) -> object:
    match value:
        case dict():
            return {key: _blocks(item) for key, item in value.items()}
        case list():
            return [_blocks(item) for item in value]
        case str() if "\n" in value:
            return LiteralScalarString(value)
        case str():
            return str(value)
    return value


#: Puts something around the text of one rule; an alert for an alert, None for a recording rule.
Wrap = Callable[[str, Alert | None], str]


def groups_yaml(every: Sequence[Group], config: Config, wrap: Wrap = lambda text, _alert: text) -> str:
    """Return ``groups:`` with a comment above each rule."""
    parts = ["groups:\n"]
    for group in every:
        parts.append(f"  - name: {PREFIX}{group.name}\n    interval: {duration(config.seconds(group.interval))}\n")
        parts.append("    rules:\n")
        for record in group.recordings:
            made = {"record": record.record, "expr": record.expr} | ({"labels": record.labels} if record.labels else {})
            parts.append(wrap(_with_comment(record.purpose, made), None))
        parts.extend(wrap(_with_comment(alert.purpose, _rule(alert, config)), alert) for alert in group.alerts)
    return "".join(parts)


def _with_comment(purpose: str, rule: dict[str, Any]) -> str:
    comment = textwrap.fill(purpose, 112, initial_indent="# ", subsequent_indent="# ")
    return textwrap.indent(comment + "\n" + to_yaml([rule]).replace("\n  ", "\n")[2:], "      ")


def _rule(alert: Alert, config: Config) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
    if alert.holds:
        rule["for"] = duration(config.seconds(alert.holds))
    if alert.keep_firing:
        rule["keep_firing_for"] = duration(config.seconds(alert.keep_firing))
    rule["labels"] = labels(alert, config)
    fixed = ",".join(f"{key}='{value}'" for key, value in rule["labels"].items() if key in DISTINCT)
    lines = [texts.since(alert.name, alert.by, fixed, alert.began)]
    if alert.pods:
        lines[0] += f" Pods: {texts.pods(alert.pods, _values(alert))}."
    rule["annotations"] = annotate(alert, config, alert.summary + alert.compared, lines)
    return rule


def _values(alert: Alert) -> Sequence[str]:
    """Return the labels whose values the query for pods takes."""
    return [label for label in ("namespace", "job", "route") if label in alert.by]


def labels(alert: Alert, config: Config) -> dict[str, str]:
    """Return an alert's labels: its severity, the configured ones, its own."""
    severity = alert.severity if alert.fixed else config.severities.get(alert.name, alert.severity)
    return {"severity": severity, **config.labels, **alert.labels}


def annotate(alert: Alert, config: Config, summary: str, lines: Sequence[str] = ()) -> dict[str, str]:
    """Return the texts of an alert; ``lines`` come before its meaning."""
    return {
        "summary": summary,
        "description": "\n".join([*lines, alert.meaning, f"Do this first: {alert.first}"]),
        "dashboard_url": texts.dashboard(
            config.grafana_url, alert.dashboard, [label for label in ("namespace", "job", "route") if label in alert.by]
        ),
        "runbook_url": runbook_url(alert, config),
    }


def runbook_url(alert: Alert, config: Config) -> str:
    """Return the address of the alert's runbook."""
    return f"{config.runbooks.rstrip('/')}/{alert.name}.md"


def _managed(alert: Alert, config: Config) -> dict[str, Any]:
    """Return one Grafana-managed rule.

    Its query yields a series only where the condition holds, so any value fires, and no data is well.
    """
    title = f"{alert.name} ({alert.variant})" if alert.variant else alert.name
    seconds = round(config.seconds(config.window))
    written = annotate(alert, config, alert.summary)
    rule = {
        "uid": hashlib.sha256(f"websocket-exporter/{title}".encode()).hexdigest()[:32],
        "title": title,
        "condition": "C",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": max(60, seconds), "to": 0},
                "datasourceUid": config.datasource,
                "model": {"refId": "A", "expr": alert.expr, "instant": True, "range": False},
            },
            _expression("B", {"type": "reduce", "expression": "A", "reducer": "last"}),
            _expression(
                "C",
                {
                    "type": "threshold",
                    "expression": "B",
                    "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
                },
            ),
        ],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": duration(config.seconds(alert.holds)) if alert.holds else "0s",
        "labels": labels(alert, config),
        "annotations": {key: text.replace("$value", "$values.B.Value") for key, text in written.items()},
        "isPaused": False,
    }
    if alert.keep_firing:
        rule["keepFiringFor"] = duration(config.seconds(alert.keep_firing))
    return rule


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": {"refId": ref, "datasource": {"type": "__expr__", "uid": "__expr__"}, **model},
    }
