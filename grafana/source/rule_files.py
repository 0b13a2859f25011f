"""The rules as files: Prometheus' rule file, the operator's PrometheusRule, Grafana's alerting provisioning.

All three are made from the same lists. Grafana's alerts read the recorded series, so its users load the recording rules
alone into their Prometheus (``grafana/alerts/recording.yaml``) and leave the alerts to Grafana.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from grafana.source.alerts import Alert, alerts
from grafana.source.config import Config
from grafana.source.promql import SERVICE, duration
from grafana.source.recording_rules import rules

HEAD = "# Made by `python -m grafana.source`; change grafana/source/, not this file.\n"

#: More to say at a rule file's head.
NEEDS = """\
# Needs Prometheus 2.42 or newer, for keep_firing_for.
# Keep each group's interval: the counts of the burn rates are sums times that interval.
"""
GRAFANA_NEEDS = "# Needs the recording rules in Prometheus; keepFiringFor is heeded by Grafana 12 or newer.\n"

RECORDING_GROUP = "websocket-exporter.recording"
ALERTS_GROUP = "websocket-exporter.alerts"


def prometheus(config: Config) -> Mapping[str, str]:
    """Prometheus' rule files: everything, and the recording rules alone."""
    groups = _groups(config)
    return {
        "grafana/alerts/rules.yaml": as_yaml({"groups": groups}, NEEDS),
        "grafana/alerts/recording.yaml": as_yaml({"groups": groups[:1]}, NEEDS),
    }


def prometheus_rule(config: Config) -> Mapping[str, str]:
    """The PrometheusRule resource of the Prometheus operator."""
    metadata: dict[str, Any] = {"name": config.resource_name}
    if config.resource_namespace:
        metadata["namespace"] = config.resource_namespace
    metadata["labels"] = dict(config.resource_labels)
    return {
        "grafana/alerts/prometheusrule.yaml": as_yaml(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": metadata,
                "spec": {"groups": _groups(config)},
            },
            NEEDS,
        )
    }


def grafana_alerting(config: Config) -> Mapping[str, str]:
    """Grafana-managed alerts, ready to import: a folder, a group, no contact point."""
    group = {
        "orgId": 1,
        "name": ALERTS_GROUP,
        "folder": config.folder,
        "interval": duration(max(10, config.seconds(config.interval))),  # Grafana evaluates every 10 s at most
        "rules": [_managed(alert, config) for alert in alerts(config)],
    }
    return {"grafana/provisioning/alerting/rules.yaml": as_yaml({"apiVersion": 1, "groups": [group]}, GRAFANA_NEEDS)}


def as_yaml(document: object, remarks: str = "") -> str:
    """YAML that a person can read: long and many-line texts as blocks. ``remarks`` are comments for its head."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(_blocks(document), out)
    return HEAD + remarks + out.getvalue()


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


def _groups(config: Config) -> list[dict[str, Any]]:
    interval = duration(config.seconds(config.interval))
    recorded = [
        {"record": rule.record, "expr": rule.expr} | ({"labels": rule.labels} if rule.labels else {})
        for rule in rules(config)
    ]
    return [
        {"name": RECORDING_GROUP, "interval": interval, "rules": recorded},
        {"name": ALERTS_GROUP, "interval": interval, "rules": [_rule(alert, config) for alert in alerts(config)]},
    ]


def _rule(alert: Alert, config: Config) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
    if alert.holds:
        rule["for"] = duration(config.seconds(alert.holds))
    if alert.keep_firing:
        rule["keep_firing_for"] = duration(config.seconds(alert.keep_firing))
    rule["labels"] = labels(alert, config)
    rule["annotations"] = _annotations(alert, config, alert.description + _normal(alert))
    return rule


def labels(alert: Alert, config: Config) -> dict[str, str]:
    """An alert's labels: its severity, its own, the configured ones."""
    severity = alert.severity
    if not alert.variant or alert.variant.count("/"):  # the burn windows are configured one by one
        severity = config.severities.get(alert.name, severity)
    return {"severity": severity, **alert.labels, **config.labels}


def _annotations(alert: Alert, config: Config, description: str) -> dict[str, str]:
    return {
        "summary": alert.summary,
        "description": description,
        "runbook_url": runbook_url(alert, config),
    }


def runbook_url(alert: Alert, config: Config) -> str:
    """Where the alert's runbook is."""
    return f"{config.runbooks.rstrip('/')}/{alert.name}.md"


def _normal(alert: Alert) -> str:
    """A sentence with the normal that the value is to be compared with; Prometheus looks it up as it fires."""
    if not alert.normal:
        return ""
    values = " ".join(f"$labels.{key}" for key in SERVICE)
    return (
        f' The normal is {{{{ with printf "{alert.normal}" {values} | query }}}}'
        "{{ . | first | value | humanize }}{{ else }}not known{{ end }}."
    )


def _managed(alert: Alert, config: Config) -> dict[str, Any]:
    """One Grafana-managed rule. The query yields a series only where the alert's condition holds, so that any value
    fires, and no data is well."""
    title = f"{alert.name} ({alert.variant})" if alert.variant else alert.name
    seconds = round(config.seconds(config.window))
    texts = _annotations(alert, config, alert.description)
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
        "annotations": {key: text.replace("$value", "$values.B.Value") for key, text in texts.items()},
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
