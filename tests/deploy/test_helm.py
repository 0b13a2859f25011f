"""deploy/helm/websocket-exporter, linted and rendered by helm."""

from __future__ import annotations

import base64
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from exporter import __version__
from exporter.kubernetes.command import inject, webhook
from exporter.kubernetes.settings import OPTIONS, PREFIX
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.helm import THRESHOLDS, value_name
from grafana.source.rule_files import groups, prometheus_rule
from tests.deploy.tools import (
    CHART,
    KUSTOMIZE,
    ROOT,
    api_server,
    call,
    kustomize,
    objects,
    one,
    tool,
    validate,
    validate_operators,
)

IMAGE = {"repository": "registry.example/w"}
ALL = {"image": IMAGE, "webhook": {"enabled": True}}
PAGES = "https://github.com/websocket-exporter/websocket-exporter"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))


def template(values: dict[str, Any], tmp_path: Path, *flags: str) -> tuple[list[Any], str]:
    """The objects helm renders, or what it said instead."""
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values))
    done = call(tool("helm"), "template", "release", str(CHART), "--namespace", "monitoring", "-f", str(path), *flags)
    return (objects(done.stdout), "") if done.returncode == 0 else ([], done.stderr)


def rendered(values: dict[str, Any], tmp_path: Path, *flags: str) -> list[Any]:
    found, said = template(values, tmp_path, *flags)
    assert said == ""
    return found


def with_certificate(**certificate: Any) -> dict[str, Any]:
    return {"image": IMAGE, "webhook": {"enabled": True, "certificate": certificate}}


VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "webhook": ALL,
    "cert-manager": with_certificate(source="cert-manager"),
    "cert-manager, own issuer": with_certificate(
        source="cert-manager", issuerRef={"kind": "ClusterIssuer", "name": "x"}
    ),
    "own secret": with_certificate(source="secret", secretName="mine", caBundle="PEM"),
    "nothing": {"monitoring": {name: {"enabled": False} for name in ("podMonitor", "rules", "dashboards")}},
    "everything set": {
        "image": {"registry": "registry.example:5000", "repository": "a/w", "tag": "9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "fullnameOverride": "ws",
        "commonLabels": {"team": "web"},
        "monitoring": {
            "podMonitor": {"labels": {"release": "kps"}, "interval": "15s", "namespaces": ["shop"]},
            "rules": {"labels": {"release": "kps"}},
            "dashboards": {"folder": "WebSocket", "folderAnnotation": "k8s-sidecar/folder", "labels": {"a": "b"}},
        },
        "webhook": {
            "enabled": True,
            "replicas": 1,
            "failurePolicy": "Fail",
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
            "tenantSettings": ["image", "memory-limit"],
            "sidecar": {
                "drain-timeout": "60s",
                "native": False,
                "route": "/a/*\n/b/*\n",
                "hold-app": "false",
            },
        },
    },
}


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_chart_with_values_of_ci_lints_and_renders(values: Path) -> None:
    """helm lint --strict has no warning, and each object fits its schema, for each file in ci/."""
    done = call(tool("helm"), "lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout + done.stderr
    done = call(tool("helm"), "template", "release", str(CHART), "--namespace", "x", "--values", str(values))
    assert done.returncode == 0, done.stderr
    validate(objects(done.stdout))


def test_chart_metadata_is_complete() -> None:
    """Chart.yaml has all that chart repositories show, and its icon is in the project's repository."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["home"] == PAGES
    assert chart["sources"] == [PAGES]
    assert all(maintainer.keys() == {"name", "url"} for maintainer in chart["maintainers"])
    assert chart["maintainers"]
    assert len(chart["keywords"]) == len(set(chart["keywords"])) >= 5
    raw = PAGES.replace("github.com", "raw.githubusercontent.com") + "/main/"
    assert chart["icon"].startswith(raw)
    icon = (ROOT / chart["icon"].removeprefix(raw)).read_text()
    assert icon.startswith("<svg")
    notes = chart["annotations"]
    assert notes["artifacthub.io/license"] == "Apache-2.0"
    links = [link["url"] for link in yaml.safe_load(notes["artifacthub.io/links"])]
    assert links
    for link in links:
        assert (ROOT / link.removeprefix(f"{PAGES}/blob/main/")).is_file(), link


def test_chart_package_has_readme_and_schema_without_ci(tmp_path: Path) -> None:
    """The package holds what chart repositories read, and none of the files for checks."""
    done = call(tool("helm"), "package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"websocket-exporter-{__version__}.tgz") as package:
        names = {name.partition("/")[2] for name in package.getnames()}
    assert {"Chart.yaml", "README.md", "values.yaml", "values.schema.json"} <= names
    assert not {name for name in names if name.startswith("ci/") or name == "values.schema.base.json"}


def test_chart_readme_describes_every_value() -> None:
    """Each row of the table of values has a description: values.yaml has a comment for each."""
    rows = [line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `")]
    described = {row.split("|")[1].strip(" `"): row.split("|")[-2].strip() for row in rows}
    assert {"image.digest", "monitoring.rules.labels", "webhook.certificate.source"} <= described.keys()
    assert [key for key, text in described.items() if not text] == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"registry.example/w:{__version__}"),
        ({"registry": "r.example:5000", "repository": "a/w", "tag": "9"}, "r.example:5000/a/w:9"),
        ({"tag": "9", "digest": f"sha256:{'0' * 64}"}, f"registry.example/w@sha256:{'0' * 64}"),
    ],
    ids=["version", "registry and tag", "digest"],
)
def test_image_of_values_is_that_of_webhook_and_sidecar(image: dict[str, str], expected: str, tmp_path: Path) -> None:
    """Registry, repository, and digest before tag before version name the webhook's image and the sidecar's."""
    container = one(rendered({**ALL, "image": IMAGE | image}, tmp_path), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["image"] == expected
    assert f"--image={expected}" in container["args"]


@pytest.mark.parametrize("name", ["defaults", "cert-manager", "own secret"])
def test_chart_rendered_twice_without_cluster_is_the_same(name: str, tmp_path: Path) -> None:
    """What Argo CD compares does not change by itself: nothing random is rendered but by source generate."""
    assert rendered(VALUES[name], tmp_path) == rendered(VALUES[name], tmp_path)


def test_generated_certificate_with_secret_in_cluster_is_kept(tmp_path: Path) -> None:
    """With an API server that has the Secret, a second render is the same; without it there is a new certificate."""
    first = rendered(ALL, tmp_path)
    secret = one(first, "Secret")
    assert one(rendered(ALL, tmp_path), "Secret")["data"] != secret["data"]
    with api_server(first, [secret], tmp_path) as kubeconfig:
        flags = ("--is-upgrade", "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(kubeconfig))
        assert rendered(ALL, tmp_path, *flags) == first
    with api_server(first, [], tmp_path) as kubeconfig:
        assert one(rendered(ALL, tmp_path, *flags[:-1], str(kubeconfig)), "Secret")["data"] != secret["data"]


@pytest.mark.parametrize("name", ["defaults", "webhook"])
def test_notes_name_next_commands_that_exist(name: str, tmp_path: Path) -> None:
    """The notes after an install name commands: kubectl for objects of the release, and inject with its flags."""
    path = tmp_path / "values.json"
    path.write_text(json.dumps(VALUES[name]))
    flags = ("--namespace", "monitoring", "--dry-run=client", "--values", str(path))
    done = call(tool("helm"), "install", "release", str(CHART), *flags)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("\nNOTES:\n")[2]
    if name == "webhook":
        deployment = one(rendered(VALUES[name], tmp_path), "Deployment")["metadata"]["name"]
        assert f"kubectl --namespace monitoring rollout status deployment/{deployment}" in notes
        (patch,) = re.findall(r"--patch \\\n\s+'(.*)'", notes)
        assert json.loads(patch)["spec"]["template"]["metadata"]["annotations"] == {f"{PREFIX}inject": "true"}
    else:
        (line,) = re.findall(r"websocket-exporter inject (.*) \|", notes)
        parameters = inject.make_context("inject", line.split()).params
        assert parameters["image"] == "IMAGE"


@pytest.mark.parametrize("name", VALUES)
def test_it_renders_to_valid_objects(name: str, tmp_path: Path) -> None:
    """Whatever is switched on, each object fits its schema, old and new, in the release's namespace."""
    found = rendered(VALUES[name], tmp_path)
    assert bool(found) == (name != "nothing")
    validate(found)
    for obj in found:
        if obj["kind"] != "MutatingWebhookConfiguration":
            assert obj["metadata"]["namespace"] == "monitoring"


def test_the_operators_objects_are_valid(tmp_path: Path) -> None:
    """With any values the PodMonitor and the PrometheusRule fit the operator's schemas."""
    validate_operators([obj for values in VALUES.values() for obj in rendered(values, tmp_path)])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"webhok": {}}, "webhok"),
        ({"webhook": {"enabled": True}}, "needs image.repository"),
        ({"image": {"digest": "9"}}, "digest"),
        ({"webhook": {"enabled": "yes"}}, "enabled"),
        ({"webhook": {"failurePolicy": "Maybe"}}, "failurePolicy"),
        ({"webhook": {"sidecar": {"drain-timout": "1s"}}}, "drain-timout"),
        ({"monitoring": {"rules": {"objective": 100}}}, "objective"),
        ({"monitoring": {"rules": {"thresholds": {"leest": 5}}}}, "leest"),
        ({"monitoring": {"rules": {"thresholds": {"least": 0}}}}, "least"),
        ({"monitoring": {"rules": {"disabled": ["WebSocketAppUp"]}}}, "disabled"),
        ({"monitoring": {"rules": {"severities": {"WebSocketAppDown": "page"}}}}, "WebSocketAppDown"),
        (with_certificate(source="secret"), "secretName is needed"),
        (with_certificate(source="secret", secretName="mine"), "caBundle is needed"),
    ],
    ids=[
        "unknown",
        "no image",
        "digest",
        "type",
        "enum",
        "unknown flag",
        "objective",
        "unknown threshold",
        "threshold",
        "unknown alert",
        "severity",
        "no secret",
        "no authority",
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], expected: str, tmp_path: Path) -> None:
    """A value that is unknown, of a wrong type or missing stops the installation and is named."""
    found, said = template(values, tmp_path)
    assert found == []
    assert expected in said


def test_the_monitoring_pack_is_that_of_kustomize(tmp_path: Path) -> None:
    """Both ways to install it give the same rules, dashboards and scraping."""
    chart, other = rendered({}, tmp_path), kustomize(KUSTOMIZE / "monitoring")
    assert one(chart, "PrometheusRule")["spec"] == one(other, "PrometheusRule")["spec"]
    maps = [sorted(str(obj["data"]).strip() for obj in found if obj["kind"] == "ConfigMap") for found in (chart, other)]
    assert [text.replace("\\n", "") for text in maps[0]] == [text.replace("\\n", "") for text in maps[1]]
    mine, theirs = (one(found, "PodMonitor")["spec"] for found in (chart, other))
    mine["podMetricsEndpoints"][0].pop("interval")
    assert mine == theirs


def test_dashboards_with_folder_labels_and_runbooks_carry_them(tmp_path: Path) -> None:
    """A folder becomes an annotation, labels find the ConfigMaps, and every runbook link has the prefix."""
    mine = {
        "folder": "WebSocket",
        "folderAnnotation": "folder",
        "annotations": {"a": "b"},
        "labels": {"find": "me"},
        "runbooks": "https://wiki.example/",
    }
    found = rendered({"monitoring": {"dashboards": mine}}, tmp_path)
    maps = [obj for obj in found if obj["kind"] == "ConfigMap"]
    assert len(maps) == 3
    for obj in maps:
        assert obj["metadata"]["annotations"] == {"folder": "WebSocket", "a": "b"}
        assert obj["metadata"]["labels"]["find"] == "me"
        (text,) = obj["data"].values()
        assert "https://wiki.example/WebSocketErrorBudgetBurn.md" in text
        assert "https://github.com" not in text
        assert json.loads(text)["panels"]


@pytest.mark.parametrize(
    "wrong",
    [{"folder": 1}, {"folderAnnotation": ""}, {"runbooks": "wiki"}, {"label": {}}],
    ids=lambda wrong: str(wrong),
)
def test_dashboards_with_wrong_values_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """The schema refuses wrong values of the dashboards and names the key."""
    found, said = template({"monitoring": {"dashboards": wrong}}, tmp_path)
    assert found == []
    assert next(iter(wrong)) in said


def test_the_webhook_asks_little_of_the_cluster(tmp_path: Path) -> None:
    """It fails open, only for pods that ask, not in kube-system, and needs no rights in the API."""
    found = rendered(ALL, tmp_path)
    (hook,) = one(found, "MutatingWebhookConfiguration")["webhooks"]
    assert hook["failurePolicy"] == "Ignore"
    assert hook["sideEffects"] == "None"
    assert hook["rules"] == [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods"],
            "scope": "Namespaced",
        }
    ]
    (excluded,) = hook["namespaceSelector"]["matchExpressions"]
    assert (excluded["operator"], "kube-system" in excluded["values"]) == ("NotIn", True)
    assert "websocket-exporter/inject" in hook["matchConditions"][0]["expression"]
    assert not {"ClusterRole", "Role", "ServiceAccount"} & {obj["kind"] for obj in found}
    assert one(found, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_path_from_the_api_server_to_the_webhook_is_whole(tmp_path: Path) -> None:
    """Configuration, Service, pods, port, Secret and certificate fit each other."""
    found = rendered(ALL, tmp_path)
    client = one(found, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
    service = one(found, "Service")
    assert client["service"] == {
        "name": service["metadata"]["name"],
        "namespace": "monitoring",
        "path": "/inject",
    }
    pods = one(found, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pods["metadata"]["labels"].items()
    container = pods["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports[service["spec"]["ports"][0]["targetPort"]] == 8443
    assert "--bind=:8443" in container["args"]
    secret = one(found, "Secret")
    assert pods["spec"]["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]
    assert client["caBundle"] == secret["data"]["ca.crt"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    authority = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["ca.crt"]))
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert f"{service['metadata']['name']}.monitoring.svc" in names.get_values_for_type(x509.DNSName)


def test_the_webhook_pod_fits_the_restricted_standard(tmp_path: Path) -> None:
    """The webhook runs as it makes others run."""
    spec = one(rendered(ALL, tmp_path), "Deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    context = spec["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", ["webhook", "everything set"])
def test_the_webhook_takes_the_command_line_it_is_given(name: str, tmp_path: Path) -> None:
    """The container's arguments are read by the command without complaint, and say what the values say."""
    container = one(rendered(VALUES[name], tmp_path), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    command, *flags = container["args"]
    assert command == "webhook"
    parameters = webhook.make_context("webhook", flags).params
    assert parameters["image"] == container["image"]
    if name == "everything set":
        assert parameters["native"] is False
        assert parameters["hold_app"] is False
        assert parameters["route"] == ("/a/*", "/b/*")
        assert parameters["drain_timeout"] == "60s"
        assert parameters["tenant_settings"] == {"image", "memory-limit"}


def test_every_setting_of_the_sidecar_can_be_a_value() -> None:
    """The schema knows the settings that make sense for all pods, and no other."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["webhook"]["properties"]["sidecar"]["properties"]
    assert known.keys() == OPTIONS.keys() - {"port", "container", "image"}


EVERY_RULE_VALUE = {
    "objective": 99.5,
    "thresholds": {value_name(name): 7 + index for index, name in enumerate(THRESHOLDS)},
    "severities": {"WebSocketAppDown": "warning", "WebSocketIdleCutoff": "info"},
    "disabled": ["WebSocketReconnectStorm", "WebSocketFixedAgeCutoff", "WebSocketSidecarSaturated"],
    "alertLabels": {"team": "web", "quoted": "a: b"},
    "runbooks": "https://runbooks.example/ws/",
    "grafanaUrl": "https://grafana.example/",
}


def test_rules_with_values_set_equal_those_of_the_generator(tmp_path: Path) -> None:
    """Each value of monitoring.rules does in the chart's template as its setting does in the generator."""
    config = replace(
        Config(),
        objective=99.5,
        **{name: 7 + index for index, name in enumerate(THRESHOLDS)},
        severities=EVERY_RULE_VALUE["severities"],
        disabled=tuple(EVERY_RULE_VALUE["disabled"]),
        labels=EVERY_RULE_VALUE["alertLabels"],
        runbooks=EVERY_RULE_VALUE["runbooks"],
        grafana_url=EVERY_RULE_VALUE["grafanaUrl"],
    )
    (made,) = prometheus_rule(config).values()
    found = one(rendered({"monitoring": {"rules": EVERY_RULE_VALUE}}, tmp_path), "PrometheusRule")
    assert found["spec"] == objects(made)[0]["spec"]


def test_rules_with_a_whole_group_disabled_have_no_empty_group(tmp_path: Path) -> None:
    """A group that had alerts only goes with them; the recording rules stay."""
    disabled = sorted({alert.name for alert in alerts(Config())})
    found = one(rendered({"monitoring": {"rules": {"disabled": disabled}}}, tmp_path), "PrometheusRule")
    rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    assert all("record" in rule for rule in rules)
    assert len(rules) == sum(len(group.recordings) for group in groups(Config()))


def test_rule_values_have_the_defaults_of_the_generator() -> None:
    """values.yaml and the generator's settings agree, name by name."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["rules"]
    assert values["objective"] == Config().objective
    assert values["thresholds"] == {value_name(name): getattr(Config(), name) for name in THRESHOLDS}
    assert values["grafanaUrl"] == Config().grafana_url
