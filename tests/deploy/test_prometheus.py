"""deploy/prometheus, read by the programs that will read it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from grafana.source.alerts import alerts
from grafana.source.config import Config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTMANAGER = FOLDER / "alertmanager.yml"


def call(tool: str, *arguments: object) -> str:
    """What a tool of the Debian packages prometheus and prometheus-alertmanager says; fails if it objects."""
    found = shutil.which(tool)
    assert found, f"{tool} is missing: apt-get install prometheus prometheus-alertmanager"
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_it_with_the_rules_beside_it(tmp_path: Path) -> None:
    """promtool checks the configuration and, through it, the rules.

    Debian builds it without Kubernetes discovery, so that one line is checked here and another stands in for it.
    """
    written = (FOLDER / "prometheus.yml").read_text()
    discovery = "kubernetes_sd_configs: [{role: pod}]\n"
    assert written.count(discovery) == 1
    (tmp_path / "prometheus.yml").write_text(written.replace(discovery, "static_configs: [{targets: [localhost:1]}]\n"))
    shutil.copy(ROOT / "grafana" / "alerts" / "rules.yaml", tmp_path)
    assert "1 rule files found" in call("promtool", "check", "config", tmp_path / "prometheus.yml")


def test_targets_have_the_labels_of_a_service() -> None:
    """namespace, job and pod are set, as rules and dashboards group by them; the port is the one that inject names."""
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    rules = job["relabel_configs"]
    assert {"namespace", "job", "pod"} <= {rule.get("target_label") for rule in rules}
    (monitor,) = yaml.safe_load_all((ROOT / "deploy/kubernetes/monitoring/podmonitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert [rule["regex"] for rule in rules if rule.get("action") == "keep"] == [endpoint["port"]]


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "pager"), ("warning", "tickets"), ("info", "context")])
def test_who_is_told(severity: str, receiver: str) -> None:
    """Critical pages a person; warning and info do not."""
    call("amtool", "check-config", ALERTMANAGER)
    labels = ["alertname=WebSocketInternalErrorSpike", "namespace=shop", "job=chat", "route=/chat"]
    told = call("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}", *labels)
    assert told.split() == [receiver]


def test_inhibitions_name_alerts_that_exist() -> None:
    """No rule is about an alert that was renamed."""
    names = {alert.name for alert in alerts(Config())}
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            if matcher.startswith("alertname"):
                assert set(matcher.split('"')[1].split("|")) <= names
