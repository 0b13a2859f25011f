"""A dashboard's frame: identity, variables, annotations, rows, and the links of every panel.

The UIDs are part of bookmarks and of the dashboards' links to each other: they never change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as sdk

from exporter.observe.catalogue import ACTIVE, BUILD, DRAINING
from grafana.source.alerts import alerts
from grafana.source.colours import BLUE, GREEN, RED, YELLOW
from grafana.source.config import Config
from grafana.source.panels import DATASOURCE, Panel
from grafana.source.promql import START_TIME
from grafana.source.queries import SIDECAR, by, on, series

#: By this tag the dashboards find each other.
TAG = "websocket-exporter"

#: Oldest Grafana that the dashboards support; grafana-foundation-sdk is pinned to it.
MINIMUM_GRAFANA = "11.0"

#: Of that Grafana; later versions migrate it.
SCHEMA_VERSION = 39

COLUMNS = 24


class Uid(StrEnum):
    """UID of each dashboard; its address is ``/d/UID``, its file ``UID.json``."""

    CLOSE_CODES = "websocket-close-codes"
    ONE_POD = "websocket-one-pod"
    FLEET = "websocket-fleet"


#: A height, and (width, panel) from left to right.
Line = tuple[int, Sequence[tuple[int, Panel]]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that collapses."""

    title: str
    lines: Sequence[Line]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard before it is JSON."""

    uid: Uid
    title: str
    description: str
    rows: Sequence[Row]

    def json(self, config: Config) -> str:
        """Return the JSON that Grafana imports."""
        board = (
            build.Dashboard(self.title)
            .uid(self.uid)
            .description(f"{self.description} Needs Grafana {MINIMUM_GRAFANA} or newer.")
            .tags([TAG])
            .editable()
            .tooltip(sdk.DashboardCursorSync.CROSSHAIR)
            .timezone("browser")
            .time("now-3h", "now")
            .refresh("30s")
            .links([_siblings()])
            .variables(_variables(one_instance=self.uid is Uid.ONE_POD))
        )
        number = 0
        for row in self.rows:
            number += 1
            header = build.Row(row.title).id(number)
            if not row.collapsed:
                board.with_row(header)
            for height, line in row.lines:
                if sum(width for width, _ in line) != COLUMNS:
                    raise ValueError(f"not {COLUMNS} wide: {[panel.title for _, panel in line]}")
                for width, panel in line:
                    number += 1
                    placed = panel.builder.id(number).height(height).span(width).links(self._links(panel, config))
                    if row.collapsed:
                        header.with_panel(placed)
                    else:
                        board.with_panel(placed)
            if row.collapsed:
                board.with_row(header)
        built = board.build()
        built.schema_version = SCHEMA_VERSION
        built.annotations = sdk.AnnotationContainer(list_val=_annotations())
        return json.dumps(built, cls=JSONEncoder, indent=1, ensure_ascii=False, sort_keys=True) + "\n"

    def _links(self, panel: Panel, config: Config) -> list[Builder[sdk.DashboardLink]]:
        """Return links to the runbook, and to the pod or back; time range and variables are kept."""
        if panel.runbook not in {alert.name for alert in alerts(config)}:
            raise ValueError(f"no alert {panel.runbook}")
        runbook = _link(f"Runbook: {panel.runbook}", f"{config.runbooks}{panel.runbook}.md").target_blank(True)
        if self.uid is Uid.ONE_POD:
            return [runbook, _link("The whole service", address(Uid.CLOSE_CODES, "namespace", "job", "route"))]
        return [runbook, _link("One pod", address(Uid.ONE_POD, "namespace", "job", "pod", "instance", "route"))]


def _link(title: str, url: str) -> build.DashboardLink:
    return build.DashboardLink(title).type(sdk.DashboardLinkType.LINK).url(url)


def address(uid: Uid, *variables: str, **values: str) -> str:
    """Return a link to a dashboard in the same time range.

    :param variables: those that keep their value.
    :param values: those that get a new one, such as ``instance="${__field.labels.instance}"``.
    """
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", *variables)]
    given = [f"var-{name}={value}" for name, value in values.items()]
    return f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept, *given])


def _siblings() -> build.DashboardLink:
    return (
        build.DashboardLink("WebSocket dashboards")
        .type(sdk.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
    )


def _variables(one_instance: bool) -> list[Builder[sdk.VariableModel]]:
    """Return datasource, namespace, job, pod, instance and route; each narrows the next.

    All of ``namespace`` also matches an absent label: outside Kubernetes there is none.
    """
    scope = 'namespace=~"$namespace", job=~"$job"'
    pods = f'{scope}, pod=~"$pod|"'
    return [
        build.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _variable("namespace", "Namespace", f"label_values({BUILD.name}, namespace)").all_value(".*"),
        _variable("job", "Workload", f'label_values({BUILD.name}{{namespace=~"$namespace"}}, job)'),
        _variable("pod", "Pod", f"label_values({BUILD.name}{{{scope}}}, pod)"),
        _variable("instance", "Instance", f"label_values({BUILD.name}{{{pods}}}, instance)", one_instance),
        _variable("route", "Route", f"label_values({ACTIVE.name}{{{scope}}}, route)"),
    ]


def _variable(name: str, label: str, query: str, one: bool = False) -> build.QueryVariable:
    variable = (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(sdk.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(sdk.VariableSort.ALPHABETICAL_ASC)
        .multi(not one)
        .include_all(not one)
    )
    if one:
        return variable
    everything = sdk.VariableOption(text=["All"], value=["$__all"], selected=True)
    return variable.all_value(".+").current(everything)


class _Annotation(sdk.AnnotationQuery):
    """An annotation of the Prometheus data source, whose texts the SDK does not model."""

    def __init__(self, name: str, colour: str, expr: str, title: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, icon_color=colour, expr=expr)
        self._texts = {"titleFormat": title, "textFormat": text}

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self._texts


def _annotations() -> list[sdk.AnnotationQuery]:
    """Return marks of rollouts, in three ways to detect one, and of alerts that fire.

    A pod that is replaced has a new instance, so its start is a new series; a container that restarts in its pod keeps
    the instance, so its start is a changed value.
    """
    build_info, start = series(BUILD), series(START_TIME)
    service = ("namespace", "job")
    version = (*service, "version")
    started = f"changes({start}[$__rate_interval]) > 0 or {start} unless {_before(start)}"
    return [
        _Annotation("Draining", BLUE, f"{by(service, series(DRAINING))} > 0", "{{job}} drains", "{{namespace}}"),
        _Annotation(
            "Restarts", GREEN,
            f"count by ({', '.join(service)}) (({started}) and {on(SIDECAR)} {build_info})",
            "{{job}}: a pod has started", "{{namespace}}",
        ),
        _Annotation(
            "Versions", YELLOW,
            f"count by ({', '.join(version)}) ({build_info} unless {on(version)} {_before(build_info)})",
            "{{job}}: sidecar {{version}}", "{{namespace}}",
        ),
        _Annotation(
            "Alerts", RED,
            'count by (alertname, severity, namespace, job) (ALERTS{alertname=~"WebSocket.*", alertstate="firing", '
            'severity=~"critical|warning", namespace=~"$namespace", job=~"$job"})',
            "{{alertname}}", "{{severity}} {{namespace}} {{job}}",
        ),
    ]  # fmt: skip


def _before(selector: str) -> str:
    """Return the series that existed earlier, however briefly: a gap of some scrapes makes nothing new."""
    return f"last_over_time({selector}[$__rate_interval] offset $__rate_interval)"
