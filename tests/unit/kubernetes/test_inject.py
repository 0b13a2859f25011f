"""What inject promises beyond the golden files: kinds, ports, Services, hooks, warnings."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from exporter.kubernetes.errors import ManifestError
from exporter.kubernetes.inject import inject, remove
from exporter.kubernetes.manifest_stream import join_files
from exporter.kubernetes.settings import Scrape, Settings
from tests.unit.kubernetes.manifests import (
    PATHS,
    containers,
    deployment,
    documents,
    make_settings,
    pod_template,
    service,
    wrap,
)

LISTEN, ADMIN = 10010, 10011
ROOT = Path(__file__).parents[3]


def injected(*objects: Any, settings: Settings | None = None) -> tuple[list[Any], list[str]]:
    """The objects after injection, and the warnings."""
    said: list[str] = []
    text = "\n".join(json.dumps(one) for one in objects)
    (out,) = inject([("in.json", text)], settings or make_settings(), said.append)
    return documents(out), said


def spec_of(obj: Any) -> Any:
    for key in PATHS[obj["kind"]]:
        obj = obj[key]
    return obj["spec"]


def endpoint_port(pod_spec: Any, target: int | str, *, version: tuple[int, int]) -> int | None:
    """What the endpoint slice controller makes of a targetPort: native sidecars are searched from 1.33 on."""
    if isinstance(target, int):
        return target
    searched = list(pod_spec["containers"])
    if version >= (1, 33):
        searched += [one for one in pod_spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
    ports = [port for one in searched for port in one.get("ports", []) if port.get("name") == target]
    return ports[0]["containerPort"] if ports else None


@pytest.mark.parametrize("kind", sorted(PATHS))
@pytest.mark.parametrize("native", [True, False])
def test_every_kind_of_workload_gets_one_sidecar(kind: str, native: bool) -> None:
    """Each kind that carries a pod template gets exactly one sidecar, where native or classic sidecars
    belong.
    """
    (obj,), _ = injected(wrap(kind, pod_template()), settings=make_settings(native=native))
    spec = spec_of(obj)
    inits = [one for one in spec.get("initContainers", []) if one["name"] == "websocket-exporter"]
    ordinary = [one for one in spec["containers"] if one["name"] == "websocket-exporter"]
    assert [len(inits), len(ordinary)] == ([1, 0] if native else [0, 1])
    assert (inits or ordinary)[0].get("restartPolicy") == ("Always" if native else None)


def test_before_1_29_the_sidecar_is_classic() -> None:
    """A manifest that must run on Kubernetes 1.28 gets no native sidecar, asked for or not."""
    (obj,), _ = injected(deployment(), settings=make_settings(native=True, kubernetes=(1, 28)))
    assert "initContainers" not in spec_of(obj)
    assert spec_of(obj)["containers"][-1]["name"] == "websocket-exporter"


@pytest.mark.parametrize("version", [(1, 29), (1, 32), (1, 33), (1, 37)])
@pytest.mark.parametrize("target", ["http", 8080])
@pytest.mark.parametrize("native", [True, False])
def test_services_reach_the_sidecar_on_every_kubernetes(
    version: tuple[int, int], target: int | str, native: bool
) -> None:
    """A Service in the stream ends up at the sidecar's port, named or numeric, also where Services overlook
    sidecars.
    """
    settings = make_settings(native=native)
    (workload, front), said = injected(deployment(), service(targetPort=target), settings=settings)
    used = front["spec"]["ports"][0]["targetPort"]
    assert used == (LISTEN if target == 8080 else "http")
    assert endpoint_port(spec_of(workload), used, version=version) == LISTEN
    assert said == []


def test_from_1_33_the_app_does_not_declare_the_sidecars_port() -> None:
    """Where Services find native sidecars by themselves nothing is declared twice."""
    (obj,), _ = injected(deployment(), settings=make_settings(kubernetes=(1, 33)))
    app, sidecar = containers(spec_of(obj))
    assert [port["containerPort"] for port in app["ports"]] == [8080]
    assert sidecar["ports"][0] == {"name": "http", "containerPort": LISTEN, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("where", "probe"),
    [
        ("startupProbe", {"httpGet": {"port": "http"}}),
        ("livenessProbe", {"tcpSocket": {"port": "http"}}),
        ("readinessProbe", {"httpGet": {"port": 8080}}),
        ("livenessProbe", {"grpc": {"port": 8080}}),
        ("readinessProbe", {"exec": {"command": ["true"]}}),
        ("readinessProbe", {"httpGet": {"port": "metrics"}}),
    ],
)
def test_probes_still_ask_the_app(where: str, probe: dict[str, Any]) -> None:
    """A probe which used the port's name gets the app's number; every other probe is as it was."""
    obj = deployment(extra_ports=[{"name": "metrics", "containerPort": 9090}], **{where: copy.deepcopy(probe)})
    (after,), _ = injected(obj, settings=make_settings(port="http"))
    app = spec_of(after)["containers"][0]
    expected = json.loads(json.dumps(probe).replace('"http"', "8080"))
    assert app[where] == expected


def test_an_app_without_hook_is_held_until_the_drain_has_ended() -> None:
    """The app's SIGTERM waits for the drain, and its own time to stop comes on top of the drain's."""
    (obj,), _ = injected(deployment(), settings=make_settings(drain_timeout="1m"))
    spec = spec_of(obj)
    assert spec["containers"][0]["lifecycle"]["preStop"] == {"httpGet": {"path": "/drain?wait=62s", "port": ADMIN}}
    assert spec["terminationGracePeriodSeconds"] == 62 + 30 + 30


def test_an_app_with_a_hook_keeps_it() -> None:
    """A preStop of the app's own stays; the grace period grows by as much as the drain and the last scrape
    need.
    """
    hook = {"preStop": {"exec": {"command": ["/stop"]}}}
    (obj,), _ = injected(deployment(lifecycle=hook), settings=make_settings())
    assert spec_of(obj)["containers"][0]["lifecycle"] == hook
    assert spec_of(obj)["terminationGracePeriodSeconds"] == 32 + 30
    patient = deployment(lifecycle=hook)
    patient["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 300
    assert spec_of(injected(patient)[0][0])["terminationGracePeriodSeconds"] == 300 + 30


def test_the_sidecar_fits_the_restricted_pod_security_standard() -> None:
    """Each control of the standard that a container can break is set on ours."""
    (obj,), _ = injected(deployment())
    context = containers(spec_of(obj))[1]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert isinstance(context["runAsUser"], int)
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True
    assert "volumeMounts" not in containers(spec_of(obj))[1]


def test_the_sidecar_has_probes_resources_and_a_hook() -> None:
    """Startup, liveness, readiness on the admin port; requests and limits; a preStop that drains without a
    shell.
    """
    (obj,), _ = injected(deployment())
    sidecar = containers(spec_of(obj))[1]
    asked = {probe: sidecar[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports["ws-metrics"] == ADMIN
    assert sidecar["resources"]["requests"].keys() == {"cpu", "memory"}
    assert sidecar["resources"]["limits"]["memory"]
    assert sidecar["lifecycle"]["preStop"]["exec"]["command"][:2] == ["websocket-exporter", "drain"]


def test_a_numeric_service_elsewhere_is_warned_of() -> None:
    """Without a Service in the stream one line says which number must become which, and that names follow."""
    _, said = injected(deployment())
    assert len(said) == 1
    assert "change targetPort: 8080 to 10010; targetPort: http needs no change" in said[0]
    _, said = injected(deployment(), service(selector={"app": "other"}))
    assert len(said) == 1


@pytest.mark.parametrize(
    "other",
    [
        service(selector={"app": "other"}),
        service(selector={}),
        service(namespace="elsewhere"),
        service(protocol="UDP"),
        service(type="ExternalName"),
        service(annotations={"websocket-exporter/inject": "false"}),
    ],
    ids=["selector", "no selector", "namespace", "udp", "external", "told not to"],
)
def test_services_of_others_stay(other: dict[str, Any]) -> None:
    """Only a Service that selects these pods, in their namespace, for TCP, is rewritten."""
    workload = deployment()
    workload["metadata"]["namespace"] = "shop"
    (_, after), _ = injected(workload, copy.deepcopy(other))
    assert after == other


def test_a_service_over_two_workloads_is_refused_if_only_one_has_the_sidecar() -> None:
    """One number cannot mean the app here and the sidecar there: the error names both workloads."""
    plain = deployment(name="old")
    plain["spec"]["template"]["metadata"]["annotations"] = {"websocket-exporter/inject": "false"}
    with pytest.raises(ManifestError, match=r"Deployment old .* Deployment chat: name that port alike") as caught:
        injected(deployment(), plain, service(targetPort=8080))
    assert "Service chat" in caught.value.where
    (_, _, after), _ = injected(deployment(), plain, service(targetPort="http"))
    assert after["spec"]["ports"][0]["targetPort"] == "http"


def test_a_service_alone_keeps_what_an_earlier_run_gave_it() -> None:
    """inject over a stream with the rewritten Service but not its workload does not send clients past the
    sidecar.
    """
    (_, front), _ = injected(deployment(), service(targetPort=8080))
    (again,), _ = injected(front)
    assert again == front


def test_inject_false_takes_the_sidecar_out_again() -> None:
    """An annotation added after injection means it: the sidecar is gone and the Service points at the app."""
    (workload, front), _ = injected(deployment(), service(targetPort=8080))
    workload["metadata"]["annotations"] = {"websocket-exporter/inject": "false"}
    (workload, front), _ = injected(workload, front)
    plain = deployment()
    plain["metadata"]["annotations"] = {"websocket-exporter/inject": "false"}
    assert [workload, front] == [plain, service(targetPort=8080)]


def test_a_taken_port_name_is_not_taken_twice() -> None:
    """Names that the sidecar or the app's old port would get are varied if something else has them."""
    obj = deployment(extra_ports=[{"name": "app-http", "containerPort": 9090}])
    (after,), _ = injected(obj, settings=make_settings(port="http"))
    assert spec_of(after)["containers"][0]["ports"][0]["name"] == "app-http-2"
    long_name = deployment(ports=[{"name": "a2345678-012345", "containerPort": 8080}])
    (after,), _ = injected(long_name)
    assert spec_of(after)["containers"][0]["ports"][0]["name"] == "app-a2345678-01"


@pytest.mark.parametrize(
    ("settings", "ports", "number"),
    [
        (make_settings(), [{"containerPort": 7000}], 7000),
        (make_settings(port="7001"), [{"containerPort": 7000}, {"containerPort": 7001}], 7001),
        (make_settings(port="ws"), [{"containerPort": 7000}, {"containerPort": 7001, "name": "ws"}], 7001),
        (make_settings(port="7002"), [{"containerPort": 7000}], 7002),
        (make_settings(), [{"containerPort": 7000}, {"containerPort": 7000, "protocol": "UDP"}], 7000),
    ],
    ids=["only", "number", "name", "undeclared", "udp beside"],
)
def test_the_apps_port_is_found(settings: Settings, ports: list[Any], number: int) -> None:
    """The only TCP port, or the hinted one, is what the sidecar forwards to."""
    (after,), _ = injected(deployment(ports=ports), settings=settings)
    assert f"--upstream=127.0.0.1:{number}" in containers(spec_of(after))[1]["args"]


@pytest.mark.parametrize("text", ["/chat/* /presence/*", "/chat/*\n/presence/*\n", "  /chat/*\n\n  /presence/*"])
def test_routes_of_an_annotation_stand_between_blanks(text: str) -> None:
    """Several patterns in one annotation become several flags, in their order."""
    obj = deployment()
    obj["metadata"]["annotations"] = {"websocket-exporter/route": text}
    (after,), _ = injected(obj)
    arguments = containers(spec_of(after))[1]["args"]
    assert [one for one in arguments if one.startswith("--route")] == ["--route=/chat/*", "--route=/presence/*"]


def test_the_container_hint_chooses_among_containers() -> None:
    """With two containers that declare a port each, --container is enough."""
    obj = deployment()
    obj["spec"]["template"]["spec"]["containers"].append({"name": "side", "ports": [{"containerPort": 9000}]})
    with pytest.raises(ManifestError, match="there are several ports"):
        injected(obj)
    (after,), _ = injected(obj, settings=make_settings(container="side"))
    assert "--upstream=127.0.0.1:9000" in containers(spec_of(after))[-1]["args"]


def test_a_pod_on_the_nodes_network_is_warned_of() -> None:
    """With hostNetwork a client can reach the app's port on the node, past the sidecar."""
    obj = deployment()
    obj["spec"]["template"]["spec"]["hostNetwork"] = True
    _, said = injected(obj)
    assert any("bypass the sidecar" in line for line in said)


def test_podmonitors_come_and_go_with_the_flag() -> None:
    """The PodMonitor of a workload is made once, in its List, and dropped with the flag."""
    monitored = make_settings(scrape=Scrape.PODMONITOR)
    (listed,), _ = injected({"apiVersion": "v1", "kind": "List", "items": [deployment()]}, settings=monitored)
    assert [one["kind"] for one in listed["items"]] == ["Deployment", "PodMonitor"]
    (again,), _ = injected(listed, settings=monitored)
    assert again == listed
    (without,), _ = injected(listed)
    assert [one["kind"] for one in without["items"]] == ["Deployment"]
    annotations = listed["items"][0]["spec"]["template"]["metadata"]["annotations"]
    assert not [key for key in annotations if key.startswith("prometheus.io/")]


def test_a_podmonitor_of_a_workload_elsewhere_stays() -> None:
    """inject does not drop what it made for a workload that is not in this input."""
    (_, monitor), _ = injected(deployment(), settings=make_settings(scrape=Scrape.PODMONITOR))
    (_, kept), _ = injected(deployment(name="other"), monitor)
    assert kept == monitor


def test_remove_leaves_a_foreign_sidecar_alone() -> None:
    """A container of our name without our note is somebody else's: remove does nothing and says so."""
    obj = deployment()
    obj["spec"]["template"]["spec"]["containers"].append({"name": "websocket-exporter", "image": "x"})
    said: list[str] = []
    text = json.dumps(obj)
    assert remove([("in.json", text)], said.append) == [text]
    assert len(said) == 1
    with pytest.raises(ManifestError, match="a container named websocket-exporter already"):
        injected(obj)


def test_aliases_are_written_out_with_a_warning() -> None:
    """Where a YAML alias shares what must differ afterwards, the document is written anew and it is said."""
    text = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: two}
spec:
  template:
    metadata: {labels: {app: two}}
    spec:
      containers:
      - name: a
        ports: &ports
        - {name: http, containerPort: 8080}
      - name: b
        ports: *ports
"""
    said: list[str] = []
    (out,) = inject([("in.yaml", text)], make_settings(port="http", container="a"), said.append)
    assert any("rewritten without its comments" in line for line in said)
    (obj,) = documents(out)
    a, b = obj["spec"]["template"]["spec"]["containers"]
    assert a["ports"][0]["name"] == "app-http"
    assert b["ports"] == [{"name": "http", "containerPort": 8080}]


def test_files_are_joined_as_documents() -> None:
    """Several inputs come out as one stream in their order, and a Service of one file follows a workload of
    another.
    """
    first = "kind: Service\napiVersion: v1\nspec: {selector: {app: chat}, ports: [{port: 80, targetPort: 8080}]}"
    second = json.dumps(deployment())
    said: list[str] = []
    front, workload = documents(
        join_files(inject([("a.yaml", first), ("b.json", second)], make_settings(), said.append))
    )
    assert front["spec"]["ports"][0]["targetPort"] == LISTEN
    assert workload["kind"] == "Deployment"
    assert said == []


NEEDS = "remove it, or let it sleep 32 s"


@pytest.mark.parametrize(
    ("hook", "warned"),
    [
        ({"sleep": {"seconds": 5}}, True),
        ({"exec": {"command": ["sleep", "5"]}}, True),
        ({"exec": {"command": ["/bin/sleep", "31s"]}}, True),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 10"]}}, True),
        ({"sleep": {"seconds": 32}}, False),
        ({"exec": {"command": ["sh", "-c", "sleep 5 && /app/stop"]}}, False),
        ({"exec": {"command": ["/app/stop", "5"]}}, False),
        ({"httpGet": {"port": 8080, "path": "/stop"}}, False),
        ({}, False),
    ],
    ids=str,
)
def test_prestop_shorter_than_the_drain_is_warned_of(hook: dict[str, Any], warned: bool) -> None:
    """A preStop of the app that sleeps less than a drain takes is named with the time that it needs."""
    _, said = injected(deployment(lifecycle={"preStop": hook}), service())
    assert [line for line in said if NEEDS in line] == (said if warned else [])
    assert bool(said) == warned


ISTIO = 'add annotation traffic.sidecar.istio.io/excludeInboundPorts: "10011"'
LINKERD = 'add annotation config.linkerd.io/skip-inbound-ports: "10011"'


@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        ({}, {}, []),
        ({"sidecar.istio.io/inject": "true"}, {}, [ISTIO]),
        ({}, {"sidecar.istio.io/inject": "true"}, [ISTIO]),
        ({"istio.io/rev": "stable"}, {}, [ISTIO]),
        ({"istio.io/dataplane-mode": "ambient"}, {}, []),
        ({"sidecar.istio.io/inject": "false"}, {}, []),
        ({"sidecar.istio.io/inject": "true"}, {"traffic.sidecar.istio.io/excludeInboundPorts": "9, 10011"}, []),
        (
            {},
            {"traffic.sidecar.istio.io/includeInboundPorts": "8080"},
            ["includeInboundPorts names the app's port 8080: add the sidecar's port 10010"],
        ),
        ({"sidecar.istio.io/inject": "true"}, {"traffic.sidecar.istio.io/includeInboundPorts": "*"}, [ISTIO]),
        ({}, {"linkerd.io/inject": "enabled"}, [LINKERD]),
        ({}, {"linkerd.io/inject": "disabled"}, []),
        ({}, {"linkerd.io/inject": "enabled", "config.linkerd.io/skip-inbound-ports": "10000-10100"}, []),
        (
            {},
            {"config.linkerd.io/opaque-ports": "8000-8100"},
            ["opaque-ports names the app's port 8080: add the sidecar's port 10010", LINKERD],
        ),
    ],
    ids=str,
)
def test_mesh_ports_are_warned_of(labels: dict[str, str], annotations: dict[str, str], expected: list[str]) -> None:
    """A pod in a mesh is warned of the admin port, and of lists with the app's port but not the sidecar's."""
    obj = deployment()
    obj["spec"]["template"]["metadata"] = {"labels": {"app": "chat", **labels}, "annotations": annotations}
    _, said = injected(obj, service())
    assert len(said) == len(expected), said
    for line, piece in zip(said, expected, strict=True):
        assert piece in line


@pytest.mark.parametrize(
    ("metadata", "pod", "expected"),
    [
        ({"labels": {"istio-injection": "enabled"}}, {}, 1),
        ({"labels": {"istio-injection": "disabled"}}, {}, 0),
        ({"annotations": {"linkerd.io/inject": "enabled"}}, {}, 1),
        ({"labels": {"istio-injection": "enabled"}}, {"sidecar.istio.io/inject": "false"}, 0),
    ],
    ids=str,
)
def test_mesh_of_the_namespace_counts(metadata: dict[str, Any], pod: dict[str, str], expected: int) -> None:
    """A Namespace in the input that joins a mesh joins its pods, unless they opt out."""
    workload = deployment()
    workload["metadata"]["namespace"] = "shop"
    workload["spec"]["template"]["metadata"]["labels"] |= pod
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", **metadata}}
    _, said = injected(namespace, workload, service())
    assert len(said) == expected, said


@pytest.mark.parametrize(
    ("protocol", "warned"),
    [
        ("kubernetes.io/ws", False),
        ("http", False),
        (None, False),
        ("kubernetes.io/h2c", True),
        ("grpc", True),
        ("kubernetes.io/wss", True),
    ],
)
@pytest.mark.parametrize("target", [8080, "http"])
def test_app_protocol_stays_and_others_than_websocket_are_warned_of(
    protocol: str | None, warned: bool, target: int | str
) -> None:
    """appProtocol is never changed; HTTP/2 and TLS are warned of, since the sidecar does not observe them."""
    extra = {} if protocol is None else {"appProtocol": protocol}
    (_, after), said = injected(deployment(), service(targetPort=target, **extra))
    assert after["spec"]["ports"][0].get("appProtocol") == protocol
    assert ["without observing it" in line for line in said] == [True] * warned


def policy(pods: dict[str, Any], *rules: Any, **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy over pods with ingress rules."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "chat"},
        "spec": {"podSelector": pods, "ingress": [{"ports": list(ports)} for ports in rules], **spec},
    }


CHAT = {"matchLabels": {"app": "chat"}}
ALLOWED = {"port": LISTEN, "protocol": "TCP"}
SCRAPED = [{"port": ADMIN}]


def expression(operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "app", "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("before", "extended"),
    [
        (policy(CHAT, [{"port": 8080}]), True),
        (policy({}, [{"port": 8080, "protocol": "TCP"}]), True),
        (policy(CHAT, [{"port": 8000, "endPort": 8100}]), True),
        (policy(expression("In", "chat", "x"), [{"port": 8080}]), True),
        (policy(expression("Exists"), [{"port": 8080}]), True),
        (policy(expression("NotIn", "x"), [{"port": 8080}]), True),
        (policy(expression("NotIn", "chat"), [{"port": 8080}]), False),
        (policy(expression("DoesNotExist"), [{"port": 8080}]), False),
        (policy({"matchLabels": {"app": "other"}}, [{"port": 8080}]), False),
        (policy(CHAT, [{"port": "http"}]), False),
        (policy(CHAT, [{"port": 8080, "protocol": "UDP"}]), False),
        (policy(CHAT, [{"port": 9090}]), False),
        (policy(CHAT, []), False),
        (policy(CHAT, [{"port": 8000, "endPort": 11000}]), False),
        (policy(CHAT, [{"port": 8080}], policyTypes=["Egress"]), False),
    ],
    ids=lambda value: json.dumps(value["spec"]) if isinstance(value, dict) else str(value),
)
def test_network_policy_for_the_apps_port_allows_the_sidecars(before: dict[str, Any], extended: bool) -> None:
    """A rule that allows the app's port by number allows the sidecar's too; every other policy stays as it is."""
    (_, _, after), _ = injected(deployment(), service(), copy.deepcopy(before))
    if not extended:
        assert after == before
        return
    assert after["spec"]["ingress"][0]["ports"] == [*before["spec"]["ingress"][0]["ports"], ALLOWED]
    text = "\n".join(map(json.dumps, (deployment(), service(), before)))
    (once,) = inject([("x", text)], make_settings(), lambda _text: None)
    assert inject([("x", once)], make_settings(), lambda _text: None) == [once]
    assert remove([("x", once)], lambda _text: None) == [text]


def test_network_policy_annotated_inject_false_stays() -> None:
    """A policy can opt out, as a Service can."""
    before = policy(CHAT, [{"port": 8080}], SCRAPED)
    before["metadata"]["annotations"] = {"websocket-exporter/inject": "false"}
    (_, _, after), _ = injected(deployment(), service(), copy.deepcopy(before))
    assert after == before


@pytest.mark.parametrize(
    ("policies", "warned"),
    [
        ([], False),
        ([policy(CHAT, [{"port": 8080}])], True),
        ([policy(CHAT, [{"port": 8080}], SCRAPED)], False),
        ([policy(CHAT, [{"port": 8080}]), policy({}, [{"port": "ws-metrics"}])], False),
        ([policy(CHAT, [])], False),
        ([policy({"matchLabels": {"app": "other"}}, [{"port": 8080}])], False),
    ],
    ids=["none", "app only", "admin by number", "admin by name", "any port", "of others"],
)
def test_network_policies_that_keep_prometheus_out_are_warned_of(policies: list[Any], warned: bool) -> None:
    """Policies over the pods that do not allow the admin port give one warning."""
    _, said = injected(deployment(), service(), *policies)
    assert ["does not allow the sidecar's admin port" in line for line in said] == [True] * warned


def test_pods_get_the_label_that_the_shipped_network_policy_selects() -> None:
    """deploy/kubernetes/networkpolicy selects injected pods; a label of that name that is there stays."""
    (shipped,) = documents((ROOT / "deploy/kubernetes/networkpolicy/networkpolicy.yaml").read_text())
    (obj,), _ = injected(deployment())
    labels = obj["spec"]["template"]["metadata"]["labels"]
    assert shipped["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    labelled = deployment()
    labelled["spec"]["template"]["metadata"]["labels"]["websocket-exporter/sidecar"] = "mine"
    (obj,), _ = injected(labelled)
    assert obj["spec"]["template"]["metadata"]["labels"]["websocket-exporter/sidecar"] == "mine"
    assert remove([("x", json.dumps(obj))], lambda _text: None)[0].count("mine") == 1


def test_podmonitor_without_the_name_label_is_warned_of() -> None:
    """Without app.kubernetes.io/name a warning names the job; a bare Pod is selected by its own labels."""
    pod = wrap("Pod", pod_template())
    pod["metadata"]["labels"] = {"app": "chat"}
    (_, _, monitor), said = injected(pod, service(), settings=make_settings(scrape=Scrape.PODMONITOR))
    assert ["the pods have no label app.kubernetes.io/name: job is chat" in line for line in said] == [True]
    assert monitor["spec"]["selector"]["matchLabels"] == {"app": "chat"}
    pod["metadata"]["labels"]["app.kubernetes.io/name"] = "talk"
    _, said = injected(pod, service(), settings=make_settings(scrape=Scrape.PODMONITOR))
    assert said == []


def test_octal_port_is_the_number_that_kubernetes_reads() -> None:
    """containerPort: 017500 is 8000 to Kubernetes, and the sidecar forwards there."""
    text = "kind: Pod\napiVersion: v1\nspec: {containers: [{name: a, ports: [{containerPort: 017500}]}]}\n"
    (out,) = inject([("x", text)], make_settings(), lambda _text: None)
    assert "--upstream=127.0.0.1:8000" in out
    assert "containerPort: 017500" in out


@pytest.mark.parametrize("note", ['{"probes": 5}', '{"host": "x"}', '{"blank": 1}', '{"annotations": {}}', "[]", "{"])
def test_damaged_note_is_an_error(note: str) -> None:
    """A note that somebody edited is reported, never a traceback."""
    obj = deployment()
    obj["spec"]["template"]["metadata"]["annotations"] = {"websocket-exporter/original": note}
    with pytest.raises(ManifestError, match="is damaged: remove the sidecar by hand"):
        remove([("x", json.dumps(obj))], lambda _text: None)


def test_notes_of_version_0_1_are_still_undone() -> None:
    """A Service that version 0.1 rewrote comes back as it was."""
    note = '{"blank":"absent","targetPorts":{"80/TCP":8080}}'
    before = service(targetPort=LISTEN, annotations={"websocket-exporter/original": note})
    (text,) = remove([("x", json.dumps(before))], lambda _text: None)
    assert documents(text) == [service()]
