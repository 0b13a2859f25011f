"""deploy/prometheus, read by the programs that will read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from operator import itemgetter
from pathlib import Path

import pytest
import yaml

from exporter.kubernetes.settings import ADMIN_PORT_NAME
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.promql import POD

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTMANAGER = FOLDER / "alertmanager.yml"
DISCOVERY = "kubernetes_sd_configs: [{role: pod}]\n"
JOB = "websocket-exporter"

Labels = dict[str, str]


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
    assert written.count(DISCOVERY) == 1
    (tmp_path / "prometheus.yml").write_text(written.replace(DISCOVERY, "static_configs: [{targets: [localhost:1]}]\n"))
    shutil.copy(ROOT / "grafana" / "alerts" / "rules.yaml", tmp_path)
    assert "1 rule files found" in call("promtool", "check", "config", tmp_path / "prometheus.yml")


META = "__meta_kubernetes_"


def pod(name: str, controller: str = "", port: str = ADMIN_PORT_NAME, phase: str = "Running", **labels: str) -> Labels:
    """One port of one pod, as Kubernetes discovery describes it; ``controller`` is its kind and name."""
    kind, _, owner = controller.partition("/")
    told = {"namespace": "shop", "pod_name": name, "pod_phase": phase, "pod_container_port_name": port}
    told |= {"pod_controller_kind": kind, "pod_controller_name": owner} if owner else {}
    told |= {f"pod_label_{label}": value for label, value in labels.items()}
    return {META + key: value for key, value in told.items()}


def scraped(tmp_path: Path, *pods: Labels) -> list[dict[str, str]]:
    """The labels of what Prometheus scrapes of these pods, in their order; promtool, which shuffles them, reads them
    from a file in discovery's place."""
    written = (FOLDER / "prometheus.yml").read_text().replace("rule_files: [rules.yaml]\n", "")
    assert written.count(DISCOVERY) == 1
    (tmp_path / "prometheus.yml").write_text(written.replace(DISCOVERY, "file_sd_configs: [{files: [pods.json]}]\n"))
    assert len(pods) < 10, "as texts, the addresses would sort otherwise"
    groups = [{"targets": [f"10.0.0.{number}:10011"], "labels": labels} for number, labels in enumerate(pods)]
    (tmp_path / "pods.json").write_text(json.dumps(groups))
    said = call("promtool", "check", "service-discovery", "--timeout=1s", tmp_path / "prometheus.yml", JOB)
    kept = [target["labels"] for target in json.loads(said) if target.get("labels")]
    return sorted(kept, key=itemgetter("__address__"))


def jobs(tmp_path: Path, *pods: Labels) -> list[str]:
    return [labels["job"] for labels in scraped(tmp_path, *pods)]


def test_targets_have_the_labels_of_a_service(tmp_path: Path) -> None:
    """namespace, job and pod, as rules and dashboards group by them; the job is the workload's name."""
    (labels,) = scraped(tmp_path, pod("chat-7d4b9-x2x4z", "ReplicaSet/chat-7d4b9", app_kubernetes_io_name="talk"))
    assert {key: labels[key] for key in POD} == {
        "namespace": "shop",
        "job": "talk",
        "pod": "chat-7d4b9-x2x4z",
        "instance": "10.0.0.0:10011",
    }
    assert labels["__metrics_path__"] == "/metrics"


def test_a_job_outlives_a_release(tmp_path: Path) -> None:
    """A pod without a name label is told by what owns it, less the hash of the release; a bare one by the scrape."""
    old = pod("live-chat-7d4b9c5f6-x2x4z", "ReplicaSet/live-chat-7d4b9c5f6")
    new = pod("live-chat-5c9f8b7d4-q8w7z", "ReplicaSet/live-chat-5c9f8b7d4")
    assert jobs(tmp_path, old, new) == ["live-chat", "live-chat"]
    assert jobs(tmp_path, pod("live-chat-0", "StatefulSet/live-chat"), pod("by-hand")) == ["live-chat", JOB]


def test_only_sidecars_that_run_are_scraped(tmp_path: Path) -> None:
    """Not the sidecar's port for clients, not another container's, not a pod that has ended."""
    others = [pod("chat-0", port=port) for port in ("websocket", "http", "metrics", "")]
    ended = [pod("chat-1", phase=phase) for phase in ("Succeeded", "Failed")]
    assert [labels["pod"] for labels in scraped(tmp_path, *others, *ended, pod("chat-2"))] == ["chat-2"]


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
