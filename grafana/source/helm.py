"""The chart's PrometheusRule template: the same rules, with the chart's values in them.

Values take the place of settings as the rules are made: a number that prints as a mark, which then becomes an action
of Helm's template language. Arithmetic on such a number would lose the mark; rules that need it leave it to PromQL.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from typing import Any

from grafana.source.alerts import Alert, alerts
from grafana.source.config import RUNBOOKS, SEVERITIES, Config
from grafana.source.rule_files import PREFIX, groups, groups_yaml

#: Settings that are values of the chart, below ``monitoring.rules.thresholds``.
THRESHOLDS = (
    "least", "deviations", "drift", "ping_timeouts", "crashed_pods", "quiet_least", "quiet_share",
    "storm_factor", "storm_least", "handshake_failures", "handshake_refusals", "refusals_least", "unobserved", "cpu",
    "descriptors", "cutoff_least", "cutoff_share",
)  # fmt: skip

_HEAD = """\
{{- /* Made by scripts/deploy_files.py; change grafana/source/, not this file. */ -}}
{{- $rules := .Values.monitoring.rules }}
{{- if $rules.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "websocket-exporter.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "websocket-exporter.labels" . | nindent 4 }}
    {{- with $rules.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
"""


class _Mark(float):
    """A number that prints as a mark, whatever the format."""

    name: str

    def __new__(cls, value: float, name: str) -> _Mark:
        made = super().__new__(cls, value)
        made.name = name
        return made

    def __format__(self, _spec: str) -> str:
        return f"@@{self.name}@@"


def value_name(setting: str) -> str:
    """Return a setting's name as a value: ``above_normal`` -> ``aboveNormal``."""
    first, *others = setting.split("_")
    return first + "".join(word.capitalize() for word in others)


def template() -> str:
    """Return templates/monitoring/prometheusrule.yaml."""
    plain = Config()
    marked = {name: _Mark(getattr(plain, name), f"thresholds.{value_name(name)}") for name in THRESHOLDS}
    fields: dict[str, Any] = {
        **marked,
        "objective": _Mark(plain.objective, "objective"),
        "runbooks": "@@runbooks@@",
        "grafana_url": "@@grafanaUrl@@",
    }
    config = replace(plain, **fields)
    text = textwrap.indent(groups_yaml(groups(config), config, _rule), "  ")
    for group in groups(config):
        if not group.recordings:
            text = _optional_group(text, PREFIX + group.name, {alert.name for alert in group.alerts})
    escaped = re.sub(r"\{\{|\}\}", lambda found: f'{{{{ "{found[0]}" }}}}', text)
    return _HEAD + _actions(escaped) + "{{- end }}\n"


def _rule(text: str, alert: Alert | None) -> str:
    if alert is None:
        return text
    if not alert.fixed:
        wanted = f"@@severity {alert.name} {alert.severity}@@"
        text = text.replace(f"severity: {alert.severity}\n", f"severity: {wanted}\n@@labels@@\n", 1)
        text = text.replace(f"severity='{alert.severity}'", f"severity='{wanted}'")
    else:
        text = text.replace(f"severity: {alert.severity}\n", f"severity: {alert.severity}\n@@labels@@\n", 1)
    return f"@@unless {alert.name}@@\n{text}@@end@@\n"


def _optional_group(text: str, name: str, names: set[str]) -> str:
    """Put a condition around a group that has nothing but alerts: all of them may be disabled."""
    begin = text.index(f"    - name: {name}\n")
    end = text.find("    - name: ", begin + 1)
    inside = text[begin : end if end > 0 else len(text)]
    return text.replace(inside, f"  @@unless {' '.join(sorted(names))}@@\n{inside}  @@end@@\n")


def _actions(text: str) -> str:
    """Turn marks into actions."""

    def action(found: re.Match[str]) -> str:
        word, *rest = found[1].split(" ")
        match word:
            case "severity":
                return f'{{{{ get $rules.severities "{rest[0]}" | default "{rest[1]}" }}}}'
            case "runbooks":
                return f'{{{{ $rules.runbooks | default "{RUNBOOKS}" | trimSuffix "/" }}}}'
            case "grafanaUrl":
                return '{{ $rules.grafanaUrl | trimSuffix "/" }}'
        return f"{{{{ $rules.{word} }}}}"

    def line(found: re.Match[str]) -> str:
        word, *rest = found[1].split(" ")
        match word:
            case "labels":
                return "{{- with $rules.alertLabels }}\n{{- toYaml . | nindent 12 }}\n{{- end }}\n"
            case "unless":
                disabled = [f'(has "{name}" $rules.disabled)' for name in rest]
                return f"{{{{- if not (and {' '.join(disabled)}) }}}}\n"
        return "{{- end }}\n"

    text = re.sub(r"^ *@@(labels|unless [^@]*|end)@@\n", line, text, flags=re.MULTILINE)
    return re.sub(r"@@([^@]+)@@", action, text)


def schema() -> dict[str, Any]:
    """Return the JSON schema of the values that the template reads."""
    every = alerts(Config())
    names = sorted({alert.name for alert in every})
    free = sorted({alert.name for alert in every if not alert.fixed})
    number = {"type": "number", "exclusiveMinimum": 0}
    return {
        "objective": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100},
        "thresholds": {
            "type": "object",
            "additionalProperties": False,
            "properties": {value_name(name): number for name in THRESHOLDS},
        },
        "severities": {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"enum": list(SEVERITIES)} for name in free},
        },
        "disabled": {"type": "array", "items": {"enum": names}},
        "alertLabels": {"type": "object", "additionalProperties": {"type": "string"}},
        "runbooks": {"type": "string", "pattern": "^(https?://.*)?$"},
        "grafanaUrl": {"type": "string", "pattern": "^https?://"},
    }
