"""deploy/compose: everything at once. Compose itself reads the file, which takes no engine; every path is looked up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from exporter.cli import cli
from exporter.demo.chat_server import main as app
from exporter.demo.clients import main as traffic
from grafana.source.config import Config
from grafana.source.provisioning import DASHBOARDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE = Path(sys.executable).parent / "docker-compose"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as Compose understands them: checked by its schema, every short form written out."""
    command = [str(COMPOSE), "--file", str(FOLDER / "compose.yaml"), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """Path in the container -> path here."""
    return {volume["target"]: Path(volume["source"]) for volume in service.get("volumes", [])}


def test_all_parts_are_there(services: dict[str, Any]) -> None:
    """App, sidecar, visitors, Prometheus, Alertmanager and Grafana, and what holds the pod's network."""
    assert sorted(services) == ["alertmanager", "app", "grafana", "pod", "prometheus", "sidecar", "visitors"]
    assert services["app"]["network_mode"] == services["sidecar"]["network_mode"] == "service:pod"


def test_every_mounted_path_exists_and_is_read_only(services: dict[str, Any]) -> None:
    """A path that does not exist would become an empty folder, without a word."""
    found = [volume for service in services.values() for volume in service.get("volumes", [])]
    assert len(found) >= 5
    for volume in found:
        assert Path(volume["source"]).exists(), volume
        assert volume["read_only"], volume
    context = Path(services["app"]["build"]["context"])
    assert (context / "Dockerfile").is_file()


def test_nothing_listens_to_the_world(services: dict[str, Any]) -> None:
    """Grafana has no login here, and the demo's app takes orders from anybody: loopback only."""
    for service in services.values():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1"


def test_grafana_finds_what_is_mounted(services: dict[str, Any]) -> None:
    """Datasources, dashboards and alerts are where a stock Grafana looks; the path in them is mounted."""
    there = mounts(services["grafana"])
    assert there["/etc/grafana/provisioning"] == ROOT / "grafana" / "provisioning"
    assert there[DASHBOARDS] == ROOT / "grafana" / "dashboards"
    kinds = {path.parent.name: load(path) for path in there["/etc/grafana/provisioning"].glob("*/*.yaml")}
    assert {"datasources", "dashboards", "alerting"} <= kinds.keys()
    (provider,) = kinds["dashboards"]["providers"]
    assert provider["options"]["path"] == DASHBOARDS
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (there[str(home.parent)] / home.name).is_file()
    (source,) = kinds["datasources"]["datasources"]
    assert (source["uid"], source["url"]) == (Config().datasource, "http://prometheus:9090")
    (trace,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert trace["name"] == "trace_id"
    assert trace["url"].endswith("$${__value.raw}")


def test_prometheus_scrapes_the_pod_and_knows_the_rules(services: dict[str, Any]) -> None:
    """Its target is the sidecar's admin port, its interval is the data source's, its rules are the generated ones."""
    config = load(FOLDER / "prometheus.yml")
    assert config["global"]["scrape_interval"] == Config().scrape_interval
    (target,) = config["scrape_configs"][0]["static_configs"]
    assert target["targets"] == ["pod:10011"]
    assert [port["target"] for port in services["pod"]["ports"]] == [10010, 10011]
    there = mounts(services["prometheus"])
    assert there["/etc/prometheus/prometheus.yml"] == FOLDER / "prometheus.yml"
    assert there["/etc/prometheus/rules.yaml"] == ROOT / "grafana" / "alerts" / "rules.yaml"
    assert "--enable-feature=exemplar-storage" in services["prometheus"]["command"]


def test_the_tools_accept_their_configuration(tmp_path: Path) -> None:
    """promtool and amtool read the files as they are mounted."""
    if not (shutil.which("promtool") and shutil.which("amtool")):
        pytest.skip("promtool or amtool is not installed (Debian packages prometheus, prometheus-alertmanager)")
    shutil.copy(FOLDER / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "grafana" / "alerts" / "rules.yaml", tmp_path)
    subprocess.run(["promtool", "check", "config", str(tmp_path / "prometheus.yml")], check=True, capture_output=True)
    subprocess.run(["amtool", "check-config", str(FOLDER / "alertmanager.yml")], check=True, capture_output=True)


def test_our_commands_take_their_arguments(services: dict[str, Any]) -> None:
    """What the containers of our image are started with is what our commands accept."""
    app.make_context("app", list(services["app"]["command"]))
    traffic.make_context("traffic", list(services["visitors"]["command"]))
    name, *flags = services["sidecar"]["command"]
    run = cli.get_command(click.Context(cli), name)
    assert run is not None
    run.make_context(name, flags)
    assert services["app"]["entrypoint"] == ["python", "-m", "exporter.demo.chat_server"]
    assert services["visitors"]["entrypoint"] == ["python", "-m", "exporter.demo.clients"]
