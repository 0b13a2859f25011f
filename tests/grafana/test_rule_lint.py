"""The rules, linted as their users would: promtool's lint, and the checks of pint that find rules which cannot work.

Exceptions, with their reason, are in grafana/alerts/.lint.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from ruamel.yaml import YAML

from exporter.observe import catalogue
from exporter.protocol.close_codes import CloseCodeMap
from exporter.protocol.enums import Peer
from exporter.protocol.labels import known_label_sets
from grafana.source.alerts import alerts
from grafana.source.config import MINUTE, Config
from grafana.source.generate import HERE
from grafana.source.promql import JOB, OPEN_FDS, START_TIME, UP
from grafana.source.recording_rules import Recording, rules
from grafana.source.rule_files import PREFIX, groups, prometheus
from tests.grafana.promtool import Events, Key, Pod, closes, each, handshakes

CONFIG = Config()
RECORDED = {rule.record: rule for rule in rules(CONFIG)}
EXPRESSIONS = {f"{alert.name}/{alert.variant}": alert.expr for alert in alerts(CONFIG)} | {
    f"{rule.record}/{rule.labels.get('class', '')}": rule.expr for rule in rules(CONFIG)
}
EXCEPTIONS: dict[str, Any] = YAML(typ="safe").load((HERE / "grafana" / "alerts" / ".lint").read_text())["exclusions"]

COUNTERS = {"process_cpu_seconds_total"}
for metric in vars(catalogue).values():
    if isinstance(metric, catalogue.Metric) and metric.kind == "counter":
        COUNTERS.add(metric.name)
    elif isinstance(metric, catalogue.Metric) and metric.kind == "histogram":
        COUNTERS |= {metric.name + suffix for suffix in ("_bucket", "_count", "_sum")}

OF_COUNTERS = {"rate", "increase", "irate", "resets"}
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}

every_expression = pytest.mark.parametrize("name", EXPRESSIONS)


def is_excluded(check: str, name: str) -> bool:
    """Whether .lint has an exception."""
    return name in EXCEPTIONS.get(check, {}).get("entries", [])


def walk(node: Any, function: str = "", window: timedelta | None = None) -> Iterator[tuple[Any, str, timedelta | None]]:
    """Yield every node with the function that it is the argument of, and its range."""
    yield node, function, window
    match node:
        case promql.BinaryExpr():
            yield from walk(node.lhs)
            yield from walk(node.rhs)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from walk(node.expr, function if isinstance(node, promql.ParenExpr) else "")
        case promql.Call():
            for argument in node.args:
                yield from walk(argument, node.func.name)
        case promql.MatrixSelector():
            yield from walk(node.vector_selector, function, node.range)


def has_condition(node: Any) -> bool:
    """Whether an expression can be empty while its series exist: by a comparison, unless, or a rule that has one."""
    match node:
        case promql.BinaryExpr():
            operator = str(node.op)
            if operator in COMPARISONS:
                return not (node.modifier and node.modifier.return_bool)
            sides = has_condition(node.lhs), has_condition(node.rhs)
            return operator == "unless" or (all(sides) if operator == "or" else any(sides))
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return has_condition(node.expr)
        case promql.Call():
            return any(has_condition(argument) for argument in node.args)
        case promql.VectorSelector():
            return node.name in RECORDED and has_condition(promql.parse(RECORDED[node.name].expr))
    return False


@pytest.mark.parametrize("path", prometheus(CONFIG))
def test_rule_files_pass_promtools_strictest_lint(path: str) -> None:
    """`promtool check rules --lint=all --lint-fatal` has nothing to say about the committed files."""
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(HERE / path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts(CONFIG), ids=lambda alert: f"{alert.name}/{alert.variant}")
def test_alert_expressions_carry_a_condition(alert: Any) -> None:
    """No alert fires as soon as its series exist."""
    assert has_condition(promql.parse(alert.expr))


@every_expression
def test_comparisons_carry_a_condition(name: str) -> None:
    """No comparison is always true of a count (>= 0), compares two numbers, or keeps both outcomes (bool)."""
    for node, _, _ in walk(promql.parse(EXPRESSIONS[name])):
        if isinstance(node, promql.BinaryExpr) and str(node.op) in COMPARISONS:
            assert not (node.modifier and node.modifier.return_bool)
            assert not isinstance(node.lhs, promql.NumberLiteral)
            if isinstance(node.rhs, promql.NumberLiteral):
                assert not (str(node.op) == ">=" and node.rhs.val <= 0)
                assert not (str(node.op) == ">" and node.rhs.val < 0)


@every_expression
def test_counters_are_not_read_raw(name: str) -> None:
    """A counter is only read by functions that know resets, and these read counters and recorded rates of them only."""
    for node, function, _ in walk(promql.parse(EXPRESSIONS[name])):
        if isinstance(node, promql.VectorSelector):
            if node.name in COUNTERS and not is_excluded("raw-counter", name):
                assert function in OF_COUNTERS, f"{node.name} in {function or 'no function'}"
            if function in OF_COUNTERS:
                assert node.name in COUNTERS, f"{function} of {node.name}, which is no counter"


@every_expression
def test_ranges_hold_two_scrapes_a_minute_apart(name: str) -> None:
    """A range over counters is at least two minutes, so that an increase exists at any usual scrape interval."""
    for node, function, window in walk(promql.parse(EXPRESSIONS[name])):
        if isinstance(node, promql.VectorSelector) and node.name in COUNTERS and function in OF_COUNTERS:
            assert window is not None
            assert window >= timedelta(seconds=2 * MINUTE)


@every_expression
def test_series_that_are_read_exist(name: str) -> None:
    """Each selector names a metric of the catalogue, a recorded series, or one that Prometheus or a process exports."""
    known = {metric.name for metric in vars(catalogue).values() if isinstance(metric, catalogue.Metric)}
    foreign = {"process_max_fds", OPEN_FDS.name, START_TIME.name, UP.name}
    for node, _, _ in walk(promql.parse(EXPRESSIONS[name])):
        if isinstance(node, promql.VectorSelector):
            assert node.name in known | COUNTERS | set(RECORDED) | foreign, node.name


def test_recording_rules_are_all_read() -> None:
    """Each recorded series is read by an alert, another rule, or a dashboard."""
    dashboards = "".join(path.read_text() for path in (HERE / "grafana" / "dashboards").glob("*.json"))
    for record in RECORDED:
        readers = [name for name, expr in EXPRESSIONS.items() if re.search(rf"{record}\b", expr)]
        assert readers or record in dashboards, f"nothing reads {record}"


def reads(rule: Recording) -> set[str]:
    """Return the recorded series that a rule reads."""
    found = (node.name for node, _, _ in walk(promql.parse(rule.expr)) if isinstance(node, promql.VectorSelector))
    return {name for name in found if name in RECORDED}


def test_recording_rules_have_no_cycle_and_no_state() -> None:
    """No recorded series depends on its own past, directly or through others."""
    needs: dict[str, set[str]] = {}
    for rule in rules(CONFIG):
        needs.setdefault(rule.record, set()).update(reads(rule))

    def behind(record: str, path: tuple[str, ...] = ()) -> None:
        assert record not in path, " -> ".join((*path, record))
        for other in needs[record]:
            behind(other, (*path, record))

    for record in needs:
        behind(record)


def test_groups_are_many_and_begin_with_their_recording_rules() -> None:
    """Groups are evaluated in parallel; within one, a rule finds what an earlier one recorded at the same tick."""
    made = groups(CONFIG)
    assert len(made) >= 5
    text = prometheus(CONFIG)["grafana/alerts/rules.yaml"]
    document = YAML(typ="safe").load(text)
    assert [group["name"] for group in document["groups"]] == [PREFIX + group.name for group in made]
    for group in document["groups"]:
        kinds = ["record" if "record" in rule else "alert" for rule in group["rules"]]
        assert kinds == sorted(kinds, reverse=True)
    for group in made:
        own = [rule.record for rule in group.recordings]
        for index, rule in enumerate(group.recordings):
            assert not reads(rule) & (set(own[index:]) - set(own[:index]))


def test_every_rule_has_its_purpose_as_a_comment() -> None:
    """The line above each rule of the committed file is a comment."""
    lines = (HERE / "grafana" / "alerts" / "rules.yaml").read_text().splitlines()
    rules_ = [index for index, line in enumerate(lines) if line.startswith(("      - record:", "      - alert:"))]
    assert len(rules_) == len(alerts(CONFIG)) + len(rules(CONFIG))
    assert [lines[index] for index in rules_ if not lines[index - 1].startswith("      # ")] == []


@every_expression
def test_aggregations_keep_the_job(name: str) -> None:
    """What a rule aggregates it keeps by namespace and job, so that every alert says where."""
    for aggregated in re.findall(r"\b(?:sum|count|max|min|avg) by \(([^)]*)\)", EXPRESSIONS[name]):
        assert set(JOB) <= set(aggregated.split(", "))


def test_exceptions_have_a_reason_and_are_needed() -> None:
    """Each exception of .lint names a check and rules that exist, and says why."""
    for check, exception in EXCEPTIONS.items():
        assert check in {"raw-counter"}
        assert len(exception["reason"]) > 20
        assert exception["entries"]
        for entry in exception["entries"]:
            assert entry in EXPRESSIONS
            nodes = list(walk(promql.parse(EXPRESSIONS[entry])))
            assert any(
                isinstance(node, promql.VectorSelector) and node.name in COUNTERS and function not in OF_COUNTERS
                for node, function, _ in nodes
            ), f"{entry} needs no exception"


#: Series that the rules may record for one service: 4,000 for 100 services of 3 pods and 1 route.
SERIES_PER_SERVICE = 40


def test_recorded_series_are_at_most_forty_per_service(tmp_path: Path) -> None:
    """With every label set that a sidecar starts at zero, and faults of all kinds: counted by promtool."""
    services, pods = 4, 3
    every: dict[Key, Events] = {
        closes(code, cause, initiator): each(0.2 if initiator is Peer.SERVER else 2)
        for code, cause, initiator in known_label_sets(CloseCodeMap())
    }
    every |= {handshakes(status): each(1) for status in ("101", "400", "401", "403", "404", "429", "500", "502", "503")}
    world = [Pod(f"{service}-{pod}", every, job=f"svc{service}") for service in range(services) for pod in range(pods)]
    counted = recorded_series(world, 40, tmp_path)
    assert services * 20 < counted <= services * SERIES_PER_SERVICE


def recorded_series(world: list[Pod], minutes: int, folder: Path) -> int:
    """Return the number of series that the rules record in a world."""
    (folder / "rules.yaml").write_text(prometheus(CONFIG)["grafana/alerts/rules.yaml"])
    asked = {"expr": 'count({__name__=~".+:.+"})', "eval_time": f"{minutes}m", "exp_samples": []}
    lines = [line for pod in world for line in pod.lines(minutes)]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": lines, "promql_expr_test": [asked]}],
    }
    (folder / "test.yaml").write_text(json.dumps(test))
    command = ["promtool", "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"got: \{\} ([\d.E+]+)", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return int(float(found[1]))
