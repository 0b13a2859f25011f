"""The webhook without its server: reviews in, decisions out."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import jsonpatch
import kubernetes_validate
import pytest

from exporter.kubernetes.pod import inject_pod
from exporter.kubernetes.settings import OPTIONS, TENANT_SETTINGS, Settings
from exporter.kubernetes.webhook import MAX_REASON, BadReview, decide
from tests.unit.kubernetes.manifests import make_settings, pod_template

WANTED = {"websocket-exporter/inject": "true"}


def pod(annotations: dict[str, str] | None = None, **container: Any) -> dict[str, Any]:
    """A pod as the API server sends it: a generated name, no namespace of its own."""
    template = pod_template(**container)
    metadata = {"generateName": "chat-5d4f-", **template["metadata"]}
    if annotations is not None:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {}}


def review(obj: Any, **request: Any) -> dict[str, Any]:
    """An AdmissionReview for the creation of `obj`; `request` is laid over it."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": obj,
            "oldObject": None,
            "dryRun": False,
            **request,
        },
    }


def respond(obj: Any, settings: Settings | None = None, **request: Any) -> dict[str, Any]:
    """The `response` for a review, after checking what every response must be."""
    sent = review(obj, **request)
    answer = decide(json.dumps(sent).encode(), settings or make_settings()).response()
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answer["response"]
    assert response["uid"] == sent["request"]["uid"]
    assert response["allowed"] is True
    return response


def patched(obj: Any, response: dict[str, Any]) -> Any:
    """The pod after the response's patch."""
    assert response["patchType"] == "JSONPatch"
    return jsonpatch.apply_patch(obj, json.loads(base64.b64decode(response["patch"])))


def test_an_annotated_pod_gets_what_inject_gives() -> None:
    """The patched pod is, value for value, what inject makes of the same pod."""
    obj = pod(WANTED)
    expected = copy.deepcopy(obj)
    inject_pod(expected, make_settings(), lambda _text: None)
    assert patched(obj, respond(obj)) == expected
    assert expected["spec"]["initContainers"][0]["name"] == "websocket-exporter"


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_the_patched_pod_is_valid(version: str) -> None:
    """The pod with its sidecar fits the schema of the oldest and the newest Kubernetes."""
    obj = pod(WANTED)
    kubernetes_validate.validate(patched(obj, respond(obj)), version, strict=True)


@pytest.mark.parametrize(
    "annotations",
    [None, {}, {"websocket-exporter/inject": "false"}, {"websocket-exporter/port": "8080"}],
    ids=str,
)
def test_a_pod_that_does_not_ask_is_left_alone(annotations: dict[str, str] | None) -> None:
    """Without inject: "true" there is no patch and no warning."""
    response = respond(pod(annotations))
    assert response.keys() == {"uid", "allowed"}


def test_a_pod_with_the_sidecar_is_left_alone() -> None:
    """A pod whose workload went through inject already is not changed, whatever the webhook's flags are."""
    obj = pod(WANTED)
    inject_pod(obj, make_settings(drain_timeout="40s"), lambda _text: None)
    assert "patch" not in respond(obj)


@pytest.mark.parametrize("request_", [{"operation": "UPDATE"}, {"operation": "DELETE", "object": None}], ids=str)
def test_only_creation_is_answered_with_a_patch(request_: dict[str, Any]) -> None:
    """A running pod cannot get another container."""
    assert "patch" not in respond(pod(WANTED), **request_)


def test_annotations_of_the_allow_list_override_the_flags() -> None:
    """The pod's own annotations win over the webhook's flags."""
    obj = pod({**WANTED, "websocket-exporter/drain-timeout": "1m"})
    after = patched(obj, respond(obj, make_settings(drain_timeout="45s", listen_port=15010)))
    arguments = after["spec"]["initContainers"][0]["args"]
    assert "--drain-timeout=1m" in arguments
    assert "--listen=:15010" in arguments


TENANT = {
    "image": "registry.example/other:1",
    "image-pull-policy": "Always",
    "extra-arg": "--upstream=192.0.2.1:80",
    "memory-limit": "none",
    "memory-request": "4Gi",
    "cpu-limit": "2",
    "cpu-request": "8",
    "native": "false",
    "kubernetes": "1.28",
}


@pytest.mark.parametrize(("name", "value"), TENANT.items(), ids=TENANT.keys())
def test_annotations_beyond_the_allow_list_are_ignored(name: str, value: str) -> None:
    """A tenant cannot set what belongs to the operator: the sidecar is as without the annotation, with a warning."""
    obj = pod({**WANTED, f"websocket-exporter/{name}": value})
    response = respond(obj)
    (warning,) = response["warnings"]
    assert f"annotation websocket-exporter/{name} is ignored" in warning
    assert patched(obj, response)["spec"] == patched(pod(WANTED), respond(pod(WANTED)))["spec"]


@pytest.mark.parametrize(("name", "value"), TENANT.items(), ids=TENANT.keys())
def test_tenant_settings_widen_the_allow_list(name: str, value: str) -> None:
    """What the operator allows counts, without a warning."""
    obj = pod({**WANTED, f"websocket-exporter/{name}": value})
    body = json.dumps(review(obj)).encode()
    response = decide(body, make_settings(), TENANT_SETTINGS | {name}).response()["response"]
    assert "warnings" not in response
    assert patched(obj, response)["spec"] != patched(pod(WANTED), respond(pod(WANTED)))["spec"]


def test_every_setting_outside_the_allow_list_is_tested() -> None:
    """The table above has every setting that a tenant may not change."""
    assert TENANT.keys() == OPTIONS.keys() - TENANT_SETTINGS


def test_patch_touches_nothing_else() -> None:
    """The patch has no operation below values that injection does not change, and keys are escaped."""
    obj = pod(WANTED, env=[{"name": "A", "value": "b"}], volumeMounts=[{"name": "v", "mountPath": "/v"}])
    operations = json.loads(base64.b64decode(respond(obj)["patch"]))
    paths = [operation["path"] for operation in operations]
    assert not [path for path in paths if "env" in path or "volumeMounts" in path]
    assert "/metadata/labels/websocket-exporter~1sidecar" in paths


def test_patch_removes_what_moves_to_the_sidecar() -> None:
    """A hostPort leaves the app's port."""
    obj = pod(WANTED, ports=[{"containerPort": 8080, "hostPort": 80}])
    after = patched(obj, respond(obj))
    assert after["spec"]["containers"][0]["ports"] == [
        {"containerPort": 8080},
        {"containerPort": 10010, "protocol": "TCP", "hostPort": 80},
    ]


def test_mesh_of_the_pod_is_warned_of() -> None:
    """The webhook warns as inject does."""
    (warning,) = respond(pod({**WANTED, "sidecar.istio.io/status": "{}"}))["warnings"]
    assert "traffic.sidecar.istio.io/excludeInboundPorts" in warning


def test_reason_in_the_annotation_is_cut() -> None:
    """An annotation with an endless invalid value makes no endless status."""
    obj = pod({**WANTED, "websocket-exporter/drain-timeout": "x" * 200_000})
    after = patched(obj, respond(obj))
    assert len(after["metadata"]["annotations"]["websocket-exporter/status"]) <= MAX_REASON


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (pod(WANTED, ports=[]), "spec.containers: no container declares a TCP port"),
        (pod(WANTED, name="websocket-exporter"), "there is a container named websocket-exporter already"),
        (
            pod({**WANTED, "websocket-exporter/typo": "1"}),
            "websocket-exporter/typo: unknown annotation",
        ),
    ],
    ids=["no port", "name taken", "unknown annotation"],
)
def test_a_pod_that_cannot_have_one_runs_without(obj: dict[str, Any], reason: str) -> None:
    """The pod is let through without a sidecar; the response and an annotation of the pod say why."""
    response = respond(obj)
    assert reason in response["warnings"][0]
    after = patched(obj, response)
    assert reason in after["metadata"]["annotations"]["websocket-exporter/status"]
    assert after["spec"] == obj["spec"]


def test_warnings_fit_what_the_api_server_takes() -> None:
    """No warning is longer than 256 characters."""
    response = respond(pod({**WANTED, "websocket-exporter/" + "x" * 400: ""}))
    assert [len(text) for text in response["warnings"]] == [256]


def without(key: str) -> dict[str, Any]:
    changed = review(pod(WANTED))
    del changed["request"][key]
    return changed


BAD: list[tuple[str, bytes, str]] = [
    ("empty", b"", "the body is not JSON"),
    ("not JSON", b"hello", "the body is not JSON"),
    ("not UTF-8", b'{"a": "\xff"}', "the body is not JSON"),
    ("a list", b"[]", "must be an AdmissionReview"),
    ("another kind", b'{"kind": "Pod"}', "must be an AdmissionReview"),
    (
        "an old version",
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}',
        "apiVersion must be",
    ),
    (
        "no request",
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
        "request must be a mapping",
    ),
    ("no uid", json.dumps(without("uid")).encode(), "request.uid"),
    ("no resource", json.dumps(without("resource")).encode(), "request.resource must be pods"),
    (
        "another resource",
        json.dumps(review(pod(WANTED), resource={"group": "apps", "resource": "deployments"})).encode(),
        "request.resource must be pods",
    ),
    ("no pod", json.dumps(review({"kind": "Service"})).encode(), "request.object must be a Pod"),
    ("a string", json.dumps(review("pod")).encode(), "request.object must be a Pod"),
    (
        "metadata",
        json.dumps(review({"kind": "Pod", "metadata": 1})).encode(),
        "request.object.metadata: must be",
    ),
    ("annotations", json.dumps(review(pod({"a": 1}))).encode(), "metadata.annotations.a: must be a string"),  # type: ignore[dict-item]
    ("deep", b"[" * 100_000, "the body is not JSON"),
]


@pytest.mark.parametrize(("body", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_no_review_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    """One line says what is wrong with the request; it is never a traceback."""
    with pytest.raises(BadReview) as caught:
        decide(body, make_settings())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [None, [], "x", {"containers": None}, {"containers": [{"ports": [1]}]}], ids=str)
def test_a_malformed_pod_is_let_through(spec: Any) -> None:
    """Whatever a pod's spec is, the answer is an answer; the API server's own validation comes after us."""
    obj = {**pod(WANTED), "spec": spec}
    assert respond(obj)["warnings"]
