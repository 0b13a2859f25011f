"""What the dashboards have in common: identity, variables, annotations, and the links of every panel.

The UIDs are part of people's bookmarks and of each other's links: they never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from exporter.observe.catalogue import ACTIVE, BUILD, DRAINING
from grafana.source.alerts import alerts
from grafana.source.colours import BLUE, GREEN, RED, YELLOW
from grafana.source.config import Config
from grafana.source.panels import DATASOURCE, Json, place
from grafana.source.promql import START_TIME
from grafana.source.queries import SIDECAR, by, on, series

#: By this the dashboards find each other.
TAG = "websocket-exporter"

SCHEMA_VERSION = 39
"""Of Grafana 11.0; later versions read it too."""

EVERYTHING = ".*"
"""The value of All. It matches an absent label as well: outside of Kubernetes there is no namespace."""


class Uid(StrEnum):
    """Of each dashboard; its address is ``/d/UID``, its file ``UID.json``."""

    CLOSE_CODES = "websocket-close-codes"
    ONE_POD = "websocket-one-pod"
    FLEET = "websocket-fleet"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard before it is JSON. ``rows`` as for :func:`grafana.source.panels.place`."""

    uid: Uid
    title: str
    description: str
    rows: Sequence[tuple[int, Sequence[tuple[int, Json]]]]

    def json(self, config: Config) -> Json:
        """As Grafana imports it."""
        panels = place(self.rows)
        for panel in panels:
            panel["links"] = [_runbook(panel.pop("runbook"), config), self._elsewhere()]
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,  # one crosshair for all panels
            "timezone": "",
            "time": {"from": "now-3h", "to": "now"},
            "refresh": "30s",
            "links": [_siblings()],
            "annotations": {"list": marks()},
            "templating": {"list": variables(one_instance=self.uid is Uid.ONE_POD)},
            "panels": panels,
        }

    def _elsewhere(self) -> Json:
        """To the pod; from the pod back to its service. Time range and variables are kept."""
        if self.uid is Uid.ONE_POD:
            return {"title": "The whole service", "url": address(Uid.CLOSE_CODES, "namespace", "workload", "route")}
        return {"title": "One pod", "url": address(Uid.ONE_POD, "namespace", "workload", "route", "instance")}


def _runbook(name: str, config: Config) -> Json:
    """A link to an alert's runbook. ValueError for an alert that there is not."""
    if name not in {alert.name for alert in alerts(config)}:
        raise ValueError(f"no alert {name}")
    return {"title": f"Runbook: {name}", "url": f"{config.runbooks}{name}.md", "targetBlank": True}


def address(uid: Uid, *variables: str, **values: str) -> str:
    """A link to a dashboard in the same time range.

    :param variables: those that keep their value.
    :param values: those that get a new one, such as ``instance="${__field.labels.instance}"``.
    """
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", *variables)]
    given = [f"var-{name}={value}" for name, value in values.items()]
    return f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept, *given])


def _siblings() -> Json:
    return {
        "type": "dashboards",
        "title": "WebSocket dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def variables(one_instance: bool) -> list[Json]:
    """Datasource, namespace, workload (the job label), route and instance; each narrows the next."""
    scope = 'namespace=~"$namespace", job=~"$workload"'
    datasource = {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1,
        "regex": "", "hide": 0, "multi": False, "includeAll": False, "options": [], "current": {}, "skipUrlSync": False,
    }  # fmt: skip
    return [
        datasource,
        _variable("namespace", "Namespace", f"label_values({BUILD.name}, namespace)"),
        _variable("workload", "Workload", f'label_values({BUILD.name}{{namespace=~"$namespace"}}, job)'),
        _variable("route", "Route", f"label_values({ACTIVE.name}{{{scope}}}, route)"),
        _variable("instance", "Instance", f"label_values({BUILD.name}{{{scope}}}, instance)", one=one_instance),
    ]


def _variable(name: str, label: str, query: str, one: bool = False) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,  # when the time range changes: pods come and go
        "sort": 1,
        "regex": "",
        "hide": 0,
        "multi": not one,
        "includeAll": not one,
        "allValue": None if one else EVERYTHING,
        "current": {} if one else {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "skipUrlSync": False,
    }


def marks() -> list[Json]:
    """Deploys, in three ways to see one, and the alerts that fired.

    A pod that is replaced has a new instance, so its start is a series that was not there before; a container that is
    restarted in its pod keeps the instance, so its start is a changed value.
    """
    build, start = series(BUILD), series(START_TIME)
    service = ("namespace", "job")
    version = (*service, "version")
    started = f"changes({start}[$__rate_interval]) > 0 or {start} unless {_before(start)}"
    return [
        _annotation("Draining", BLUE, f"{by(service, series(DRAINING))} > 0", "{{job}} drains", "{{namespace}}"),
        _annotation(
            "Restarts", GREEN,
            f"count by ({', '.join(service)}) (({started}) and {on(SIDECAR)} {build})",
            "{{job}}: a pod has started", "{{namespace}}",
        ),
        _annotation(
            "Versions", YELLOW,
            f"count by ({', '.join(version)}) ({build} unless {on(version)} {_before(build)})",
            "{{job}}: sidecar {{version}}", "{{namespace}}",
        ),
        _annotation(
            "Alerts", RED,
            'count by (alertname, severity, namespace, job) (ALERTS{alertname=~"WebSocket.*", alertstate="firing", '
            'severity=~"critical|warning", namespace=~"$namespace", job=~"$workload"})',
            "{{alertname}}", "{{severity}} {{namespace}} {{job}}",
        ),
    ]  # fmt: skip


def _before(selector: str) -> str:
    """What was seen earlier, however briefly: a gap of some scrapes makes nothing new."""
    return f"last_over_time({selector}[$__rate_interval] offset $__rate_interval)"


def _annotation(name: str, colour: str, expr: str, title: str, text: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "",
        "useValueForTime": "off",
    }
