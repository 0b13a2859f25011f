"""The checks of Grafana's dashboard-linter, on the committed dashboards; exceptions: grafana/dashboards/.lint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.models import units
from ruamel.yaml import YAML

from .variables import FOLDER, all_panels, load, replaced

Json = Mapping[str, Any]

DASHBOARDS = load()
EXCLUSIONS: dict[str, dict[str, Any]] = YAML(typ="safe").load((FOLDER / ".lint").read_text(encoding="utf-8"))[
    "exclusions"
]

#: Types of panels that show values.
VALUES = ("stat", "table", "timeseries", "gauge")
BUILT_IN_UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
TEMPLATED = ("$datasource", "${datasource}")

#: In place of the linter's own values of the variables.
MAGIC = {
    "__rate_interval": "7m13s", "__range": "86400s",
    **{name: f"${name}" for name in ("namespace", "job", "pod", "instance", "route")},
}  # fmt: skip

#: One message of a rule, and the panel it is about ("" for the dashboard).
Finding = tuple[str, str]


def variable(dashboard: Json, name: str) -> dict[str, Any]:
    return next((one for one in dashboard["templating"]["list"] if one["name"] == name), {})


def template_datasource(dashboard: Json) -> Iterator[Finding]:
    """Check that the data source is a variable."""
    found = variable(dashboard, "datasource")
    if (found.get("type"), found.get("label")) != ("datasource", "Data source"):
        yield "", "no variable datasource with the label 'Data source'"


def template_of(name: str, label: str) -> Callable[[Json], Iterator[Finding]]:
    """Return a check that a variable of this name selects any number of values."""

    def check(dashboard: Json) -> Iterator[Finding]:
        found = variable(dashboard, name)
        wanted = {"type": "query", "label": label, "multi": True, "allValue": ".+"}
        for key, value in wanted.items():
            if found.get(key) != value:
                yield "", f"{name}: {key} is {found.get(key)!r} and not {value!r}"
        if found.get("datasource", {}).get("uid") not in TEMPLATED:
            yield "", f"{name}: the data source is not templated"

    return check


def template_promql(dashboard: Json) -> Iterator[Finding]:
    """Check that the variables' queries parse."""
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            selector = one["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
            yield from ((("", f"{one['name']}: {error}")) for error in parse_errors(selector))


def template_reload(dashboard: Json) -> Iterator[Finding]:
    """Check that variables are read again when the time range changes."""
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query" and one["refresh"] != 2:
            yield "", f"{one['name']}: refresh is {one['refresh']}"


def panel_datasource(dashboard: Json) -> Iterator[Finding]:
    """Check that no data source is hard-coded, in a panel, a query or an annotation."""
    for panel in all_panels(dashboard):
        for one in (panel, *panel.get("targets", ())):
            if one["datasource"]["uid"] not in TEMPLATED:
                yield panel["title"], "the data source is not templated"
    for mark in dashboard["annotations"]["list"]:
        if mark["datasource"]["uid"] not in TEMPLATED:
            yield "", f"annotation {mark['name']}: the data source is not templated"


def panel_title_description(dashboard: Json) -> Iterator[Finding]:
    """Check that panels have a title and a description."""
    for panel in all_panels(dashboard):
        if not panel.get("title") or len(panel.get("description", "")) < 20:
            yield panel.get("title", ""), "no title or no description"


def panel_units(dashboard: Json) -> Iterator[Finding]:
    """Check that every unit, of a panel, a column or a series, is one of Grafana's."""
    for panel in all_panels(dashboard):
        config = panel["fieldConfig"]
        overridden = [p["value"] for o in config["overrides"] for p in o["properties"] if p["id"] == "unit"]
        for unit in (config["defaults"].get("unit"), *overridden):
            if unit not in BUILT_IN_UNITS:
                yield panel["title"], f"the unit {unit!r} is not built in"


def panel_no_targets(dashboard: Json) -> Iterator[Finding]:
    """Check that panels of values have a query."""
    for panel in all_panels(dashboard):
        if panel["type"] in VALUES and not panel.get("targets"):
            yield panel["title"], "no query"


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in all_panels(dashboard):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def parse_errors(expr: str) -> list[str]:
    try:
        promql_parser.parse(replaced(expr, MAGIC))
    except ValueError as error:
        return [f"{expr}: {error}"]
    return []


def nodes(expr: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(replaced(expr, MAGIC)), found.append)
    return found


def target_promql(dashboard: Json) -> Iterator[Finding]:
    """Check that queries parse."""
    for title, expr in expressions(dashboard):
        yield from ((title, error) for error in parse_errors(expr))


def target_rate_interval(dashboard: Json) -> Iterator[Finding]:
    """Check that rates are over $__rate_interval."""
    for title, expr in expressions(dashboard):
        for node in nodes(expr):
            if isinstance(node, promql_parser.Call) and node.func.name in ("rate", "irate"):
                for inner in node.args:
                    if isinstance(inner, promql_parser.MatrixSelector) and inner.range.total_seconds() != 433:
                        yield title, f"{expr}: a rate over another range than $__rate_interval"


def target_matcher(name: str) -> Callable[[Json], Iterator[Finding]]:
    """Return a check that every selector matches the variable of this name."""

    def check(dashboard: Json) -> Iterator[Finding]:
        for title, expr in expressions(dashboard):
            for node in nodes(expr):
                if isinstance(node, promql_parser.VectorSelector):
                    matchers = [(m.name, m.op, m.value) for m in node.matchers.matchers]
                    if (name, promql_parser.MatchOp.Re, f"${name}") not in matchers:
                        yield title, f'{node.name} without {name}=~"${name}"'

    return check


def target_counter_aggregation(dashboard: Json) -> Iterator[Finding]:
    """Check that counters and histograms are read through rate, irate or increase."""
    for title, expr in expressions(dashboard):
        found = nodes(expr)
        ranged = [
            inner.vector_selector.name
            for node in found
            if isinstance(node, promql_parser.Call) and node.func.name in ("rate", "irate", "increase")
            for inner in node.args
            if isinstance(inner, promql_parser.MatrixSelector)
        ]
        selectors = [node.name for node in found if isinstance(node, promql_parser.VectorSelector)]
        counters = [name for name in selectors if name.endswith(("_total", "_bucket", "_sum", "_count"))]
        for name in set(counters):
            if counters.count(name) > ranged.count(name):
                yield title, f"{name} without rate, irate or increase"


def uneditable(dashboard: Json) -> Iterator[Finding]:
    """Check that the dashboard cannot be edited."""
    if dashboard["editable"]:
        yield "", "editable"


RULES: Mapping[str, Callable[[Json], Iterator[Finding]]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_of("job", "Job"),
    "template-instance-rule": template_of("instance", "Instance"),
    "template-label-promql-rule": template_promql,
    "template-on-time-change-reload-rule": template_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_matcher("job"),
    "target-instance-rule": target_matcher("instance"),
    "target-counter-agg-rule": target_counter_aggregation,
    "uneditable-dashboard": uneditable,
}


def excluded(rule: str, dashboard: Json, finding: Finding) -> bool:
    entries = EXCLUSIONS.get(rule, {}).get("entries", [])
    return any(
        entry["dashboard"] == dashboard["title"] and entry.get("panel", finding[0]) == finding[0] for entry in entries
    )


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("uid", list(DASHBOARDS))
def test_lint_rule_on_a_dashboard_finds_nothing(uid: str, rule: str) -> None:
    """No dashboard breaks a rule of the linter without an exception."""
    dashboard = DASHBOARDS[uid]
    assert [found for found in RULES[rule](dashboard) if not excluded(rule, dashboard, found)] == []


def test_lint_exceptions_have_a_reason_and_a_use() -> None:
    """Every exception is of a known rule, says why, and is needed."""
    titles = {dashboard["title"]: dashboard for dashboard in DASHBOARDS.values()}
    for rule, exception in EXCLUSIONS.items():
        assert len(exception["reason"]) > 20
        assert exception["entries"]
        for entry in exception["entries"]:
            assert any(RULES[rule](titles[entry["dashboard"]])), f"{rule}: {entry} is not needed"


def test_lint_of_broken_dashboards_finds_each_defect() -> None:
    """Each rule finds the defect that it is about."""
    whole = DASHBOARDS["websocket-fleet"]

    def broken(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> dict[str, Any]:
        dashboard: dict[str, Any] = copy.deepcopy(dict(whole))
        panel = next(panel for panel in all_panels(dashboard) if panel["type"] == "timeseries")
        change(dashboard, panel)
        return dashboard

    def expr(text: str) -> Callable[[dict[str, Any], dict[str, Any]], object]:
        return lambda _, panel: panel["targets"][0].update(expr=text)

    scope = '{job=~"$job", instance=~"$instance"}'
    defects: Mapping[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
        "template-datasource-rule": lambda board, _: board["templating"]["list"][0].update(label="Prometheus"),
        "template-job-rule": lambda board, _: variable(board, "job").update(allValue=".*"),
        "template-instance-rule": lambda board, _: variable(board, "instance").update(multi=False),
        "template-label-promql-rule": lambda board, _: variable(board, "job")["query"].update(
            query="label_values({, x)"
        ),
        "template-on-time-change-reload-rule": lambda board, _: variable(board, "job").update(refresh=1),
        "panel-datasource-rule": lambda _, panel: panel["targets"][0]["datasource"].update(uid="prometheus"),
        "panel-title-description-rule": lambda _, panel: panel.pop("description"),
        "panel-units-rule": lambda _, panel: panel["fieldConfig"]["defaults"].update(unit="suffix:/min"),
        "panel-no-targets-rule": lambda _, panel: panel.pop("targets"),
        "target-promql-rule": expr("sum("),
        "target-rate-interval-rule": expr(f"sum(rate(a_total{scope}[5m]))"),
        "target-job-rule": expr('sum(rate(a_total{instance=~"$instance"}[$__rate_interval]))'),
        "target-instance-rule": expr('sum(rate(a_total{job=~"$job"}[$__rate_interval]))'),
        "target-counter-agg-rule": expr(f"sum(a_total{scope})"),
    }
    assert defects.keys() == RULES.keys() - {"uneditable-dashboard"}
    for rule, change in defects.items():
        assert len(list(RULES[rule](broken(change)))) > len(list(RULES[rule](whole))), rule
    assert [len(list(uneditable({"editable": editable}))) for editable in (True, False)] == [1, 0]
