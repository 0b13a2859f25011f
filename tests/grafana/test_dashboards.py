"""The committed dashboards, as Grafana imports them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as sdk

from exporter.observe.catalogue import CATALOGUE, CLOSED, IDLE_BEFORE_DROP, LIFETIME
from exporter.protocol.causes import CAUSES as TABLE
from exporter.protocol.close_codes import REGISTRY
from exporter.protocol.enums import Cause, Peer
from exporter.protocol.idle_timeouts import KNOWN_CUTOFFS
from grafana.source import colours, recording_rules
from grafana.source.alerts import alerts
from grafana.source.config import EXPECTED, FAULTS, NOT_ABNORMAL, Config
from grafana.source.dashboard import MINIMUM_GRAFANA, Uid
from grafana.source.generate import HERE, drift
from grafana.source.panels import NO_DATA
from grafana.source.panels_closes import named_buckets
from grafana.source.queries import series

from .variables import PLANNED, Asked, all_panels, load, queries, replaced

DASHBOARDS = load()
PANELS = [(uid, panel) for uid, dashboard in DASHBOARDS.items() for panel in all_panels(dashboard)]
QUERIES = [asked for dashboard in DASHBOARDS.values() for asked in queries(dashboard)]

#: Labels that discovery adds to every target.
TARGET = {"namespace", "job", "instance", "pod"}

#: Fields of the Prometheus data source's annotations that the dashboard schema does not model.
BEYOND_THE_SCHEMA = {f".annotations.list[].{key}" for key in ("titleFormat", "textFormat")}

HISTOGRAM = ("_bucket", "_sum", "_count")

#: Metrics of others that panels may use, with their labels.
FOREIGN: dict[str, set[str]] = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}

#: Recorded series that panels may use; they have no pod and no instance.
RECORDED = {rule.record for rule in recording_rules.rules(Config())}
OF_RECORDED = {"namespace", "job", "controller", "route", "class"}


def titled(case: tuple[str, dict[str, Any]]) -> str:
    return f"{case[0]}: {case[1]['title']}"


each_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=map(titled, PANELS))
each_query = pytest.mark.parametrize("asked", QUERIES, ids=str)
each_dashboard = pytest.mark.parametrize("uid", list(DASHBOARDS))


def labels_of(name: str) -> set[str] | None:
    """The labels that series of this name have; None if there are no such series."""
    for metric in (*CATALOGUE, *PLANNED):
        names = {metric.name + end for end in (HISTOGRAM if metric.kind == "histogram" else ("",))}
        if name in names:
            return {*metric.labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
    if name.startswith("process_"):
        return TARGET
    return OF_RECORDED if name in RECORDED else FOREIGN.get(name)


def nodes(expr: str) -> list[promql_parser.Expr]:
    """Every node of the parsed expression. ValueError if it does not parse."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expr), found.append)
    return found


@each_query
def test_query_uses_known_metrics_and_labels(asked: Asked) -> None:
    """A query uses no metric and no label, in a matcher, a grouping or a join, that is not exposed."""
    names, used = set(), set()
    for node in nodes(asked.expr):
        match node:
            case promql_parser.VectorSelector():
                names.add(node.name)
                unknown = {matcher.name for matcher in node.matchers.matchers} - (labels_of(node.name) or set())
                assert labels_of(node.name) is not None, f"{node.name} is not exposed"
                assert not unknown, f"{node.name} has no label {unknown}"
            case promql_parser.AggregateExpr() if node.modifier is not None:
                used |= set(node.modifier.labels)
            case promql_parser.BinaryExpr() if node.modifier is not None and node.modifier.matching is not None:
                used |= set(node.modifier.matching.labels)
    assert names
    assert used <= set.union(*(labels_of(name) or set() for name in names)), asked.expr


def test_query_check_with_unknown_names_fails() -> None:
    """The check above rejects unknown metrics and labels."""
    with pytest.raises(ValueError, match="has no label"):
        series(CLOSED, status="101")
    assert labels_of("websocket_connections_close_total") is None
    assert "status" not in (labels_of(CLOSED.name) or set())
    assert "le" in (labels_of(f"{LIFETIME.name}_bucket") or set())
    with pytest.raises(ValueError, match="unclosed"):
        nodes("sum by (cause (up)")


def test_variables_are_the_same_on_every_dashboard() -> None:
    """Datasource, namespace, job (labelled Workload), pod, instance and route narrow each other on each dashboard."""
    for dashboard in DASHBOARDS.values():
        found = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
        assert list(found) == ["datasource", "namespace", "job", "pod", "instance", "route"]
        assert found["job"]["label"] == "Workload"
        for variable in dashboard["templating"]["list"][1:]:
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", replaced(variable["query"]["query"]))
            assert query is not None
            (selector,) = nodes(query[1])
            assert query[2] in (labels_of(selector.name) or set())
    with pytest.raises(KeyError):
        replaced("rate(x[$__interval])")


def test_pod_matcher_without_a_pod_label_matches() -> None:
    """All pods, and a dashboard outside Kubernetes, where no series has the label, show the same panels."""
    for expr in (asked.expr for asked in QUERIES if "ALERTS" not in asked.expr):
        assert 'pod=~".+|"' in expr or any(name in expr for name in RECORDED)
    assert re.fullmatch(".+|", "")
    assert re.fullmatch(".+|", "chat-0")


@each_panel
def test_panel_has_runbook_and_link_to_the_pod(uid: str, panel: dict[str, Any]) -> None:
    """Every panel links to its runbook, and to the pod (or back) in the same time range."""
    runbook, elsewhere = panel["links"]
    name = runbook["title"].removeprefix("Runbook: ")
    assert runbook["url"] == f"{Config().runbooks}{name}.md"
    assert name in {alert.name for alert in alerts(Config())}
    other = Uid.CLOSE_CODES if uid == Uid.ONE_POD else Uid.ONE_POD
    assert elsewhere["url"].startswith(f"/d/{other}?${{__url_time_range}}&${{datasource:queryparam}}")


def test_every_alert_has_a_panel_with_its_runbook() -> None:
    """Each alert's runbook is one click from a panel."""
    linked = {panel["links"][0]["title"].removeprefix("Runbook: ") for _, panel in PANELS}
    assert linked == {alert.name for alert in alerts(Config())}


def test_uids_do_not_change() -> None:
    """Bookmarks and links rest on the UIDs, and files are named by them."""
    assert list(DASHBOARDS) == ["websocket-close-codes", "websocket-fleet", "websocket-one-pod"]
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for top in dashboard["panels"] for panel in (top, *top.get("panels", ()))]
        assert len(ids) == len(set(ids))


def test_every_metric_of_the_sidecar_is_on_its_dashboards() -> None:
    """A panel or a mark of the dashboards of a service and of a pod reads each metric of the catalogue."""
    for uid in (Uid.CLOSE_CODES, Uid.ONE_POD):
        read = " ".join(asked.expr for asked in queries(DASHBOARDS[uid]))
        assert [metric.name for metric in CATALOGUE if metric.name not in read] == []


def test_dashed_line_is_at_the_percentage_that_the_description_names() -> None:
    """A line on an axis of shares stands where the alert's or the objective's percentage does."""
    config = Config()
    named = {config.cpu, config.descriptors, config.handshake_failures, 100 - config.objective}
    lines = set()
    for _, panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        if defaults.get("custom", {}).get("thresholdsStyle"):
            assert defaults["unit"] == "percentunit", panel["title"]
            percentage = round(100 * defaults["thresholds"]["steps"][-1]["value"], 6)
            assert f" {percentage:g} %" in panel["description"].rpartition("dashed line")[2], panel["title"]
            lines.add(percentage)
    assert lines == {round(number, 6) for number in named}


@each_dashboard
def test_titles_are_unique(uid: str) -> None:
    """A title names one panel of a dashboard."""
    titles = [panel["title"] for panel in all_panels(DASHBOARDS[uid])]
    assert sorted(titles) == sorted(set(titles))


def test_committed_files_match_the_source() -> None:
    """The committed files are those that the generator writes."""
    assert drift(Config(), HERE) == []


@each_dashboard
def test_grid_is_covered_without_overlap(uid: str) -> None:
    """Every row is 24 columns wide and panels do not overlap."""
    taken: set[tuple[int, int]] = set()
    for panel in (inner for top in DASHBOARDS[uid]["panels"] for inner in (top, *top.get("panels", ()))):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


@each_dashboard
def test_rows_are_those_of_the_design_and_collapse(uid: str) -> None:
    """Overview and Causes come first and are open; the other rows collapse."""
    titles = [panel["title"] for panel in DASHBOARDS[uid]["panels"] if panel["type"] == "row"]
    assert titles[:2] == ["Overview", "Causes"]
    assert set(titles) <= {"Overview", "Causes", "Handshakes", "Traffic", "Diagnosis", "Sidecar"}
    if uid == Uid.CLOSE_CODES:
        collapsed = [panel["title"] for panel in DASHBOARDS[uid]["panels"] if panel.get("collapsed")]
        assert collapsed == ["Handshakes", "Traffic", "Diagnosis", "Sidecar"]


@each_dashboard
def test_server_faults_come_first_beside_going_away(uid: str) -> None:
    """The first two numbers are server faults and going away, and the first two charts are their courses."""
    shown = all_panels(DASHBOARDS[uid])
    assert [panel["title"] for panel in shown[:2]] == ["Server faults", "Going away"]
    numbers = [panel for panel in shown if panel["gridPos"]["y"] == shown[0]["gridPos"]["y"]]
    assert {panel["type"] for panel in numbers} == {"stat"}
    faults, away = [panel for panel in shown if panel["type"] == "timeseries"][:2]
    assert faults["title"].startswith("Server faults")
    assert away["title"].startswith("Going away")
    for panel, causes in ((shown[0], FAULTS), (faults, FAULTS), (shown[1], EXPECTED), (away, EXPECTED)):
        assert f'cause=~"{"|".join(causes)}"' in panel["targets"][0]["expr"]


def test_faults_by_tcp_end_are_as_red_as_1011() -> None:
    """An app whose failed handlers end TCP without a Close frame is as red as one that sends 1011."""
    assert {Cause.INTERNAL_ERROR, Cause.DROPPED_ON_MESSAGE, Cause.CONNECTION_LOST, Cause.WORKER_LOST} <= set(FAULTS)
    for cause in FAULTS:
        assert reddish(colours.shade(cause, Peer.SERVER)), cause
        assert not reddish(colours.shade(cause, Peer.CLIENT)), cause
    for _, panel in PANELS:
        if panel["title"] == "Server faults" and panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["color"] == colours.RED


def reddish(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red > 1.8 * max(green, blue) or (red > 200 and green < 120 and blue < 140)


def test_abnormal_is_one_set() -> None:
    """Every panel about abnormal closes leaves out the same causes, and no fault is among them."""
    assert not set(NOT_ABNORMAL) & set(FAULTS)
    matcher = f'cause!~"{"|".join(NOT_ABNORMAL)}"'
    about = [panel for _, panel in PANELS if "bnormal" in panel["title"]]
    assert about
    for panel in about:
        assert matcher in panel["targets"][0]["expr"], panel["title"]


@each_panel
def test_number_without_data_is_grey(uid: str, panel: dict[str, Any]) -> None:
    """A number without data says so on grey; green needs a zero that was counted."""
    if panel["type"] != "stat":
        return
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["noValue"] == NO_DATA
    below, first, *_ = defaults["thresholds"]["steps"]
    assert (below["value"], below["color"]) == (None, colours.GREY)
    assert first["value"] == 0
    assert all("vector(0)" not in target["expr"] for target in panel["targets"])


def test_exemplars_are_requested_where_there_are_any() -> None:
    """The close counter's and the lifetime histogram's exemplars show, and lead to the trace."""
    asking = {panel["title"] for _, panel in PANELS for target in panel.get("targets", []) if target["exemplar"]}
    assert {"Server faults by cause", "Closes by code", "Session lifetimes over time"} <= asking
    for _, panel in PANELS:
        for target in panel.get("targets", []):
            if target["exemplar"]:
                assert CLOSED.name in target["expr"] or LIFETIME.name in target["expr"]
                assert target["range"], "exemplars come with range queries only"


def test_every_cause_has_a_colour_of_its_own() -> None:
    """1001 is blue, 1011 is red, wherever they appear, and no two causes look the same."""
    assert set(Cause) == set(colours.CAUSES)
    assert len(set(colours.CAUSES.values())) == len(colours.CAUSES)
    assert colours.CODES["1001"] == colours.CAUSES[Cause.GOING_AWAY] == colours.BLUE
    assert colours.CODES["1011"] == colours.CAUSES[Cause.INTERNAL_ERROR] == colours.RED


def test_quantiles_are_called_p50_and_p99() -> None:
    """Legends of quantiles name them p50 and p99."""
    for _, panel in PANELS:
        for target in panel.get("targets", []):
            if found := re.match(r"histogram_quantile\(0\.(\d+)", target["expr"]):
                assert target["legendFormat"].endswith({"5": "p50", "99": "p99"}[found[1]]), panel["title"]


@pytest.mark.parametrize("metric", [LIFETIME, IDLE_BEFORE_DROP], ids=lambda metric: metric.name)
def test_known_ages_stand_in_a_bar_of_their_own(metric: Any) -> None:
    """Every known cut-off is in a bucket that names its culprit in orange, and no two share one."""
    marked = [bar for bar in named_buckets(metric.buckets, KNOWN_CUTOFFS) if bar.colour == colours.ORANGE]
    assert len(marked) == len(KNOWN_CUTOFFS)
    assert any(bar.name.endswith(": nginx") for bar in marked)


def test_remedies_are_the_registry() -> None:
    """The table has a row for each registered code, with its remedy, going away and internal error first."""
    panel = next(panel for _, panel in PANELS if panel["title"] == "Close codes: meaning and remedy")
    rows = panel["options"]["content"].splitlines()[2:]
    assert [row.split("**")[1] for row in rows[:3]] == ["1001", "1011", "1006"]
    assert sorted(int(row.split("**")[1]) for row in rows) == sorted(REGISTRY)
    for info in REGISTRY.values():
        assert sum(f"**{info.code}**" in row and info.remedy in row for row in rows) == 1


def test_causes_are_explained_in_the_tables_words() -> None:
    """The text has a row for each cause, with its meaning and remedy."""
    panel = next(panel for _, panel in PANELS if panel["title"] == "Causes: meaning and remedy")
    rows = panel["options"]["content"].splitlines()[2:]
    assert rows == [f"| **{info.cause}** | {info.meaning} | {info.remedy} |" for info in TABLE.values()]


def test_rollouts_and_alerts_are_marked() -> None:
    """Draining, restarts, versions and alerts that fire stand on the time axis of every dashboard."""
    for dashboard in DASHBOARDS.values():
        marks = {mark["name"]: mark["expr"] for mark in dashboard["annotations"]["list"]}
        assert list(marks) == ["Draining", "Restarts", "Versions", "Alerts"]
        assert "websocket_exporter_draining" in marks["Draining"]
        assert "changes(process_start_time_seconds" in marks["Restarts"]
        assert "websocket_exporter_build_info" in marks["Versions"]


#: kubectl apply keeps a copy of the object in an annotation, and all annotations together have this limit.
ANNOTATIONS_LIMIT = 256 * 1024


@each_dashboard
def test_configmap_fits_into_kubectls_annotation(uid: str) -> None:
    """A ConfigMap with the dashboard can be applied by kubectl."""
    text = (HERE / "grafana" / "dashboards" / f"{uid}.json").read_text(encoding="utf-8")
    assert len(json.dumps({"data": {f"{uid}.json": text}})) < ANNOTATIONS_LIMIT - 2048


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Every key of nested JSON, as a path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{at}.{key}"
            yield from paths(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


def unknown_to_the_schema(dashboard: dict[str, Any]) -> set[str]:
    """Fields that are lost on the way through the SDK's models."""
    register_default_plugins()
    again = json.loads(JSONEncoder(sort_keys=True).encode(sdk.Dashboard.from_json(dashboard)))
    return set(paths(dashboard)) - set(paths(again))


@each_dashboard
def test_schema_of_the_oldest_grafana_has_every_field(uid: str) -> None:
    """Parsed by the models of the oldest supported Grafana and written again, no field is lost."""
    assert unknown_to_the_schema(DASHBOARDS[uid]) == BEYOND_THE_SCHEMA
    assert f"Needs Grafana {MINIMUM_GRAFANA} or newer" in DASHBOARDS[uid]["description"]


def test_oldest_grafana_is_the_pinned_sdk() -> None:
    """The minimum version that the dashboards state is the one that builds them."""
    pinned = (HERE / "requirements" / "dev.txt").read_text(encoding="utf-8")
    assert re.search(rf"^grafana-foundation-sdk==\d+!{re.escape(MINIMUM_GRAFANA)}\.0( |$)", pinned, re.MULTILINE)


NEWEST = HERE / "build" / "grafana-newest"

ROUND_TRIP = """
import json, sys
sys.path.insert(0, sys.argv[1])
import grafana_foundation_sdk
assert grafana_foundation_sdk.__file__.startswith(sys.argv[1])
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard
register_default_plugins()
print(JSONEncoder().encode(dashboard.Dashboard.from_json(json.load(sys.stdin))))
"""


@each_dashboard
def test_schema_of_the_newest_grafana_has_every_field(uid: str) -> None:
    """Parsed by the models of the newest Grafana and written again, no field is lost."""
    if not NEWEST.is_dir():
        pytest.skip("the newest grafana-foundation-sdk is not installed (make grafana-newest)")
    command = [sys.executable, "-c", ROUND_TRIP, str(NEWEST)]
    text = json.dumps(DASHBOARDS[uid])
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(paths(DASHBOARDS[uid])) - set(paths(json.loads(done.stdout))) == BEYOND_THE_SCHEMA


def test_schema_check_with_a_misspelt_field_fails() -> None:
    """The check above covers a panel's options and field configuration."""
    wrong = json.loads(json.dumps(DASHBOARDS[Uid.CLOSE_CODES]))
    panel = next(panel for panel in wrong["panels"] if panel["type"] == "timeseries")
    panel["options"]["legend"]["placment"] = "bottom"
    panel["fieldConfig"]["defaults"]["custom"]["fillOpacty"] = 1
    misspelt = {".panels[].options.legend.placment", ".panels[].fieldConfig.defaults.custom.fillOpacty"}
    assert unknown_to_the_schema(wrong) - BEYOND_THE_SCHEMA == misspelt
