"""The committed dashboards, read as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as sdk

from exporter.observe.catalogue import CATALOGUE, CLOSED, LIFETIME
from exporter.protocol.close_codes import REGISTRY, Nature
from exporter.protocol.enums import Cause
from grafana.source import colours
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.dashboard import Uid
from grafana.source.generate import HERE, drift
from grafana.source.queries import series

from .variables import Asked, load, queries, replaced

DASHBOARDS = load()
PANELS = [(uid, panel) for uid, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]]
QUERIES = [asked for dashboard in DASHBOARDS.values() for asked in queries(dashboard)]

#: What discovery adds to every target.
TARGET = {"namespace", "job", "instance", "pod"}

#: What the Prometheus plugin's annotations and Grafana's variable editor write beyond the dashboard schema.
BEYOND_THE_SCHEMA = {
    *(f".annotations.list[].{key}" for key in ("step", "titleFormat", "textFormat", "tagKeys", "useValueForTime")),
    ".templating.list[].definition",
}

HISTOGRAM = ("_bucket", "_sum", "_count")

#: Other people's metrics that panels may use, with their labels.
FOREIGN: dict[str, set[str]] = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}


def titled(case: tuple[str, dict[str, Any]]) -> str:
    return f"{case[0]}: {case[1]['title']}"


each_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=map(titled, PANELS))
each_query = pytest.mark.parametrize("asked", QUERIES, ids=str)


def labels_of(name: str) -> set[str] | None:
    """The labels that series of this name have; None if nobody makes such series."""
    for metric in CATALOGUE:
        names = {metric.name + end for end in (HISTOGRAM if metric.kind == "histogram" else ("",))}
        if name in names:
            return {*metric.labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
    if name.startswith("process_"):
        return TARGET
    return FOREIGN.get(name)


def nodes(expr: str) -> list[promql_parser.Expr]:
    """Every node of the parsed expression. ValueError if it does not parse."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expr), found.append)
    return found


@each_query
def test_every_query_parses_and_knows_its_metrics(asked: Asked) -> None:
    """A query uses no metric and no label, in a matcher, a grouping or a join, that nobody exposes."""
    names, used = set(), set()
    for node in nodes(asked.expr):
        match node:
            case promql_parser.VectorSelector():
                names.add(node.name)
                unknown = {matcher.name for matcher in node.matchers.matchers} - (labels_of(node.name) or set())
                assert labels_of(node.name) is not None, f"{node.name} is exposed by nobody"
                assert not unknown, f"{node.name} has no label {unknown}"
            case promql_parser.AggregateExpr() if node.modifier is not None:
                used |= set(node.modifier.labels)
            case promql_parser.BinaryExpr() if node.modifier is not None and node.modifier.matching is not None:
                used |= set(node.modifier.matching.labels)
    assert names
    assert used <= set.union(*(labels_of(name) or set() for name in names)), asked.expr


def test_the_catalogue_is_asked_and_wrong_names_are_found() -> None:
    """The check above fails for a label that does not exist: it is not blind."""
    with pytest.raises(ValueError, match="has no label"):
        series(CLOSED, status="101")
    assert labels_of("websocket_connections_close_total") is None
    assert "status" not in (labels_of(CLOSED.name) or set())
    assert "le" in (labels_of(f"{LIFETIME.name}_bucket") or set())
    with pytest.raises(ValueError, match="unclosed"):
        nodes("sum by (cause (up)")


def test_every_variable_in_a_query_is_one_of_the_dashboard() -> None:
    """Datasource, namespace, workload, route and instance are the variables, in this order, on each dashboard."""
    for dashboard in DASHBOARDS.values():
        names = [variable["name"] for variable in dashboard["templating"]["list"]]
        assert names == ["datasource", "namespace", "workload", "route", "instance"]
        for variable in dashboard["templating"]["list"][1:]:
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", replaced(variable["query"]["query"]))
            assert found is not None
            (selector,) = nodes(found[1])
            assert found[2] in (labels_of(selector.name) or set())
    with pytest.raises(KeyError):
        replaced("rate(x[$__interval])")


def test_rates_follow_the_scrape_interval() -> None:
    """Every range is $__rate_interval or $__range: a fixed one would be too short for somebody's scrapes."""
    for _, panel in PANELS:
        for target in panel.get("targets", []):
            assert set(re.findall(r"\[(.*?)\]", target["expr"])) <= {"$__rate_interval", "$__range"}, panel["title"]


@each_panel
def test_every_panel_is_complete(uid: str, panel: dict[str, Any]) -> None:
    """Title, description, unit, its runbook, and a link to the pod (or back) that keeps the time range."""
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    runbook, elsewhere = panel["links"]
    name = runbook["title"].removeprefix("Runbook: ")
    assert runbook["url"] == f"{Config().runbooks}{name}.md"
    assert name in {alert.name for alert in alerts(Config())}
    other = Uid.CLOSE_CODES if uid == Uid.ONE_POD else Uid.ONE_POD
    assert elsewhere["url"].startswith(f"/d/{other}?${{__url_time_range}}&${{datasource:queryparam}}")


def test_every_runbook_is_a_click_from_a_panel() -> None:
    """Whatever alert fires, some panel shows its matter and links to its runbook."""
    linked = {panel["links"][0]["title"].removeprefix("Runbook: ") for _, panel in PANELS}
    assert linked == {alert.name for alert in alerts(Config())}


def test_uids_are_for_ever() -> None:
    """Bookmarks and links rest on them, and files are named by them."""
    assert list(DASHBOARDS) == ["websocket-close-codes", "websocket-fleet", "websocket-one-pod"]
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))


def test_the_committed_files_are_what_the_source_says() -> None:
    """Nobody edits them by hand, and nobody forgets to generate them."""
    assert drift(Config(), HERE) == []


def test_panels_cover_the_grid_and_not_each_other() -> None:
    """Rows are 24 wide and panels do not overlap."""
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
        assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_weather_and_faults_come_first_side_by_side() -> None:
    """Who opens Close codes sees going away on the left and internal errors on the right before anything else."""
    first, second = DASHBOARDS[Uid.CLOSE_CODES]["panels"][:2]
    assert (first["gridPos"]["y"], second["gridPos"]["y"]) == (0, 0)
    assert [first["gridPos"]["x"], second["gridPos"]["x"]] == [0, 12]
    assert Cause.GOING_AWAY in first["targets"][0]["expr"]
    assert Cause.INTERNAL_ERROR in second["targets"][0]["expr"]


def test_exemplars_are_asked_for_where_there_are_any() -> None:
    """The close counter's and the lifetime histogram's exemplars show, and lead to the trace."""
    asking = {panel["title"] for _, panel in PANELS for target in panel.get("targets", []) if target["exemplar"]}
    assert {"Internal error: a bug", "Closes by code", "Session lifetimes"} <= asking
    for _, panel in PANELS:
        for target in panel.get("targets", []):
            if target["exemplar"]:
                assert CLOSED.name in target["expr"] or LIFETIME.name in target["expr"]
                assert target["range"], "exemplars come with range queries only"


def test_every_cause_has_a_colour_of_its_own() -> None:
    """1001 is blue, 1011 is red, wherever they appear, and no two causes look the same."""
    assert set(colours.CAUSES) == set(Cause)
    assert len(set(colours.CAUSES.values())) == len(Cause)
    assert colours.CODES["1001"] == colours.CAUSES[Cause.GOING_AWAY] == colours.BLUE
    assert colours.CODES["1011"] == colours.CAUSES[Cause.INTERNAL_ERROR] == colours.RED
    for _, panel in PANELS:
        for override in panel["fieldConfig"]["overrides"]:
            name = str(override["matcher"]["options"])
            colour = next((p["value"] for p in override["properties"] if p["id"] == "color"), {}).get("fixedColor")
            cause = name.split(" by ")[0]
            if cause in colours.CAUSES and " by " in name:
                shades = {colours.shade(Cause(cause), peer) for peer in colours.PEERS}
                assert colour in shades, f"{panel['title']}: {name}"
            elif cause in colours.CAUSES:
                assert colour == colours.CAUSES[cause], f"{panel['title']}: {name}"


def test_what_to_do_is_the_registry() -> None:
    """The table has a row for each registered code, with its remedy, going away and internal error first."""
    panel = next(panel for _, panel in PANELS if panel["title"] == "What to do")
    rows = panel["options"]["content"].splitlines()[2:]
    assert [row.split("**")[1] for row in rows[:3]] == ["1001", "1011", "1006"]
    assert sorted(int(row.split("**")[1]) for row in rows) == sorted(REGISTRY)
    for info in REGISTRY.values():
        assert sum(f"**{info.code}**" in row and info.remedy in row for row in rows) == 1
    assert any(info.nature is Nature.FAULT for info in REGISTRY.values())


def test_deploys_are_marked() -> None:
    """Draining, restarts, build_info changes and the alerts that fire stand on the time axis of every dashboard."""
    for dashboard in DASHBOARDS.values():
        marks = {mark["name"]: mark["expr"] for mark in dashboard["annotations"]["list"]}
        assert list(marks) == ["Draining", "Restarts", "Versions", "Alerts"]
        assert "websocket_exporter_draining" in marks["Draining"]
        assert "changes(process_start_time_seconds" in marks["Restarts"]
        assert "websocket_exporter_build_info" in marks["Versions"]


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Every key of nested JSON, as a path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{at}.{key}"
            yield from paths(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


@pytest.mark.parametrize("uid", list(DASHBOARDS))
def test_grafanas_own_schema_knows_every_field(uid: str) -> None:
    """Read into the SDK's models and written again, nothing is missing: no field is misspelt or made up."""
    assert unknown_to_the_schema(DASHBOARDS[uid]) == BEYOND_THE_SCHEMA


def test_the_schema_finds_a_misspelt_field() -> None:
    """The check above sees into a panel's options and field configuration."""
    wrong = json.loads(json.dumps(DASHBOARDS[Uid.CLOSE_CODES]))
    wrong["panels"][0]["options"]["legend"]["placment"] = "bottom"
    wrong["panels"][0]["fieldConfig"]["defaults"]["custom"]["fillOpacty"] = 1
    misspelt = {".panels[].options.legend.placment", ".panels[].fieldConfig.defaults.custom.fillOpacty"}
    assert unknown_to_the_schema(wrong) - BEYOND_THE_SCHEMA == misspelt


def unknown_to_the_schema(dashboard: dict[str, Any]) -> set[str]:
    """Fields that are lost on the way through the SDK's models."""
    register_default_plugins()
    again = json.loads(JSONEncoder(sort_keys=True).encode(sdk.Dashboard.from_json(dashboard)))
    return set(paths(dashboard)) - set(paths(again))
