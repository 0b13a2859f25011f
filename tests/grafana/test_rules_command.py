"""`websocket-exporter rules`: the rules, tuned on the command line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from exporter.cli import cli
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.generate import HERE
from grafana.source.helm import THRESHOLDS, value_name


def rules(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["rules", *arguments])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("prometheus", "grafana/alerts/rules.yaml"),
        ("recording", "grafana/alerts/recording.yaml"),
        ("prometheusrule", "grafana/alerts/prometheusrule.yaml"),
        ("grafana", "grafana/provisioning/alerting/rules.yaml"),
    ],
)
def test_rules_without_flags_prints_the_committed_rules(kind: str, path: str) -> None:
    """In each format the output is the repository's file, less its first comment."""
    done = rules("--format", kind)
    assert done.exit_code == 0
    assert (HERE / path).read_text().endswith(done.output)
    assert len(done.output) > 5000


def test_rules_with_every_flag_changes_the_rules(tmp_path: Path) -> None:
    """Objective, threshold, severity, label, links and a disabled alert are in the rules, and promtool accepts them."""
    done = rules(
        "--objective", "99.5", "--set", "least=21", "--severity", "WebSocketAppDown=warning", "--label", "team=web",
        "--disable", "WebSocketReconnectStorm", "--runbooks", "https://r.example", "--grafana-url", "https://g.example",
    )  # fmt: skip
    assert done.exit_code == 0
    found = [rule for group in yaml.safe_load(done.output)["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in found} == {a.name for a in alerts(Config())} - {"WebSocketReconnectStorm"}
    assert {rule["labels"]["team"] for rule in found} == {"web"}
    assert {rule["labels"]["severity"] for rule in found if rule["alert"] == "WebSocketAppDown"} == {"warning"}
    assert all(rule["annotations"]["runbook_url"].startswith("https://r.example/Web") for rule in found)
    assert all(rule["annotations"]["dashboard_url"].startswith("https://g.example/d/") for rule in found)
    (spike,) = [rule["expr"] for rule in found if rule["labels"].get("cause") == "internal-error"]
    assert ">= 21\n" in spike
    assert ">= 10\n" not in spike
    assert sum("* (1 - 99.5 / 100)" in rule["expr"] for rule in found) == len(Config().burn)
    (tmp_path / "rules.yaml").write_text(done.output)
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_rules_with_a_file_lets_flags_win(tmp_path: Path) -> None:
    """Flags win over the file, and lists and labels of both add up."""
    path = tmp_path / "settings.yaml"
    path.write_text("objective: 99\nleast: 33\ndisabled: [WebSocketIdleCutoff]\nlabels: {a: b}\n")
    done = rules("--config", str(path), "--objective", "95", "--disable", "WebSocketAppDown", "--label", "c=d")
    assert done.exit_code == 0
    assert "(1 - 95 / 100)" in done.output
    assert ">= 33" in done.output
    found = [rule for group in yaml.safe_load(done.output)["groups"] for rule in group["rules"] if "alert" in rule]
    assert not {"WebSocketIdleCutoff", "WebSocketAppDown"} & {rule["alert"] for rule in found}
    assert all(rule["labels"].items() >= {"a": "b", "c": "d"}.items() for rule in found)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--objective", "100"], "objective: 100"),
        (["--disable", "WebSocketUp"], "no alert WebSocketUp"),
        (["--severity", "WebSocketAppDown=page"], "severity page is none of critical, warning, info"),
        (["--severity", "WebSocketErrorBudgetBurn=info"], "no alert WebSocketErrorBudgetBurn"),
        (["--set", "leest=1"], "leest: no such setting"),
        (["--set", "least=many"], "least: 'many' is not a number"),
        (["--set", "least=-1"], "least: -1 is below 0"),
        (["--label", "team"], "'team' is not NAME=VALUE"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
    ],
)
def test_rules_with_a_wrong_value_names_it(arguments: list[str], named: str) -> None:
    """A wrong value exits with status 2, prints no rules, and names setting and value."""
    done = rules(*arguments)
    assert done.exit_code == 2
    assert named in done.output
    assert "groups:" not in done.output


def test_documented_thresholds_are_those_of_the_generator() -> None:
    """docs/alerts.md lists every threshold with its flag's name, its value's name and its default."""
    page = (HERE / "docs" / "alerts.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \| ([^|]+) \|", page, re.MULTILINE)
    listed: dict[str, tuple[str, str]] = {}
    for names, values, defaults in rows:
        flags, helm = re.findall(r"`(\w+)`", names), re.findall(r"`(\w+)`", values)
        numbers = defaults.split(", ")
        for index, flag in enumerate(flags):
            listed[flag] = helm[index], numbers[min(index, len(numbers) - 1)]
    assert listed == {name: (value_name(name), f"{getattr(Config(), name):g}") for name in THRESHOLDS}
