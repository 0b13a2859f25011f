"""deploy/kubernetes, rendered by kubectl's kustomize."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from exporter.kubernetes.pod import app_prestop
from exporter.kubernetes.settings import ADMIN_PORT_NAME, CONTAINER, Settings
from tests.deploy.tools import (
    KUSTOMIZE,
    kustomize,
    objects,
    one,
    operator_problems,
    validate,
    validate_operators,
)
from tests.unit.kubernetes.cases import CASES

KINDS = {"example/base", "example/overlay", "monitoring"}


@pytest.fixture(scope="module")
def overlay() -> list[Any]:
    return kustomize(KUSTOMIZE / "example" / "overlay")


@pytest.fixture(scope="module")
def monitoring() -> list[Any]:
    return kustomize(KUSTOMIZE / "monitoring")


@pytest.mark.parametrize("directory", sorted(KINDS))
def test_it_renders_to_valid_objects(directory: str) -> None:
    """Each kustomization renders, and each object fits its schema, old and new."""
    found = kustomize(KUSTOMIZE / directory)
    assert found
    validate(found)


def test_every_kustomization_is_tested() -> None:
    """No directory with a Kustomization is left out above; components are rendered by the overlay."""
    found = {path.parent for path in KUSTOMIZE.rglob("kustomization.yaml")}
    whole = {path for path in found if objects((path / "kustomization.yaml").read_text())[0]["kind"] != "Component"}
    assert {str(path.relative_to(KUSTOMIZE)) for path in whole} == KINDS | {"monitoring/dashboards"}


def test_the_overlay_puts_the_sidecar_before_the_app(overlay: list[Any]) -> None:
    """One native sidecar, told where the app is; the Service sends clients to it; the app's container has its
    hook.
    """
    spec = one(overlay, "Deployment")["spec"]["template"]["spec"]
    (sidecar,) = spec["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == (CONTAINER, "Always")
    environment = {variable["name"]: variable["value"] for variable in sidecar["env"]}
    app = spec["containers"][0]
    assert environment["WEBSOCKET_EXPORTER_UPSTREAM"] == f"127.0.0.1:{app['ports'][0]['containerPort']}"
    listen = sidecar["ports"][0]["containerPort"]
    assert one(overlay, "Service")["spec"]["ports"][0]["targetPort"] == listen
    assert app["lifecycle"]["preStop"] == app_prestop(Settings(image="any"))


def test_the_base_is_an_app_without_a_sidecar(overlay: list[Any]) -> None:
    """Nothing of ours is in the base: the component does it all."""
    base = kustomize(KUSTOMIZE / "example" / "base")
    assert "websocket-exporter" not in str(base)
    assert "10010" in str(overlay)


def test_the_network_policy_opens_the_two_ports_and_no_other(overlay: list[Any]) -> None:
    """Clients reach the sidecar's port, Prometheus the admin port, and it selects the pods the component
    labels.
    """
    policy = one(overlay, "NetworkPolicy")["spec"]
    template = one(overlay, "Deployment")["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = [port["containerPort"] for port in template["spec"]["initContainers"][0]["ports"]]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [[port] for port in ports]
    assert "from" not in policy["ingress"][0]
    assert "from" in policy["ingress"][1]


def test_the_component_takes_every_deployment_and_the_services_that_ask(tmp_path: Path) -> None:
    """Two Deployments get a sidecar each; of two Services the annotated one is sent to it."""
    base = KUSTOMIZE / "example" / "base"
    shared = tmp_path / "deploy"
    deployment = objects((base / "deployment.yaml").read_text())[0]
    service = objects((base / "service.yaml").read_text())[0]
    found = []
    for name, notes in (("a", {"websocket-exporter/inject": "true"}), ("b", {})):
        for obj in (deployment, service):
            changed = copy.deepcopy(obj)
            changed["metadata"] |= {"name": name, "annotations": notes}
            found.append(changed)
    rendered = render_with_component(shared, found)
    for name in "ab":
        sidecars = one(rendered, "Deployment", name)["spec"]["template"]["spec"]["initContainers"]
        assert [sidecar["name"] for sidecar in sidecars] == [CONTAINER]
    targets = [one(rendered, "Service", name)["spec"]["ports"][0]["targetPort"] for name in "ab"]
    assert targets == [10010, "http"]
    validate(rendered)


def render_with_component(directory: Path, found: list[Any]) -> list[Any]:
    """Objects under the component, which must be below the same root."""
    shutil.copytree(KUSTOMIZE / "component", directory / "component")
    app = directory / "app"
    app.mkdir()
    (app / "objects.json").write_text("\n---\n".join(map(json.dumps, found)))
    (app / "kustomization.yaml").write_text(
        "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\n"
        "resources: [objects.json]\ncomponents: [../component]\n"
    )
    return kustomize(app)


def test_the_monitor_finds_the_sidecars_port(monitoring: list[Any]) -> None:
    """The PodMonitor scrapes the port that sidecars name, in all namespaces, and takes job from the usual
    label.
    """
    spec = one(monitoring, "PodMonitor")["spec"]
    assert [endpoint["port"] for endpoint in spec["podMetricsEndpoints"]] == [ADMIN_PORT_NAME]
    assert spec["namespaceSelector"] == {"any": True}
    assert spec["jobLabel"] == "app.kubernetes.io/name"


def test_the_operators_objects_are_valid(monitoring: list[Any]) -> None:
    """PodMonitor and PrometheusRule fit the operator's schemas."""
    validate_operators(monitoring)


def test_dashboards_are_labelled_for_grafana(monitoring: list[Any]) -> None:
    """Each dashboard is a ConfigMap that Grafana's sidecar finds, with JSON in it, below the size limit."""
    maps = [obj for obj in monitoring if obj["kind"] == "ConfigMap"]
    assert maps
    for obj in maps:
        assert obj["metadata"]["labels"]["grafana_dashboard"] == "1"
        for name, text in obj["data"].items():
            assert name.endswith(".json")
            assert json.loads(text)["title"]
            assert len(text) < 1 << 20


def test_the_operator_check_sees_unknown_fields_and_wrong_values() -> None:
    """What is wrong with a PodMonitor is found: a field that does not exist, a value of the wrong type."""
    good = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "x"},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "ws-metrics"}]},
    }
    assert operator_problems([good]) == ""
    unknown = copy.deepcopy(good)
    unknown["spec"]["podMetricsEndpoints"][0]["prot"] = "x"  # type: ignore[index]
    assert "prot" in operator_problems([unknown])
    wrong = copy.deepcopy(good)
    wrong["spec"]["podMetricsEndpoints"][0]["port"] = 5  # type: ignore[index]
    assert operator_problems([wrong])


def test_the_podmonitor_that_inject_writes_is_valid() -> None:
    """What `--scrape podmonitor` adds fits the operator's schemas."""
    case = next(case for case in CASES if case.name == "podmonitor")
    found = [obj for obj in objects(case.after.read_text()) if obj["kind"] == "PodMonitor"]
    assert len(found) == 1
    validate_operators(found)
