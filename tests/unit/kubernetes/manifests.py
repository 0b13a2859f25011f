"""Small manifests to start from."""

from __future__ import annotations

from typing import Any

from exporter.kubernetes.manifest_stream import ManifestFile
from exporter.kubernetes.settings import Settings

IMAGE = "websocket-exporter:0.1.0"

PATHS: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
_VERSIONS = {"Job": "batch/v1", "CronJob": "batch/v1", "Pod": "v1"}


def make_settings(**values: Any) -> Settings:
    """Settings with an image."""
    return Settings(**{"image": IMAGE, **values})


def pod_template(**container: Any) -> dict[str, Any]:
    """A pod template with one app container that declares port 8080 as http; `container` is laid over it."""
    extra = container.pop("extra_ports", [])
    app = {
        "name": "chat",
        "image": "chat:1",
        "ports": [{"name": "http", "containerPort": 8080}, *extra],
        **container,
    }
    return {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [app]}}


def wrap(kind: str, template: dict[str, Any], name: str = "chat") -> dict[str, Any]:
    """An object of a kind around a pod template."""
    inner: dict[str, Any] = template
    for key in reversed(PATHS[kind]):
        inner = {key: inner}
    metadata = {**inner.pop("metadata", {}), "name": name}
    return {"apiVersion": _VERSIONS.get(kind, "apps/v1"), "kind": kind, "metadata": metadata, **inner}


def deployment(name: str = "chat", **container: Any) -> dict[str, Any]:
    """A Deployment of `pod_template`."""
    obj = wrap("Deployment", pod_template(**container), name)
    obj["spec"]["selector"] = {"matchLabels": {"app": "chat"}}
    return obj


def service(
    *,
    selector: dict[str, str] | None = None,
    namespace: str | None = None,
    annotations: dict[str, str] | None = None,
    type: str | None = None,
    **port: Any,
) -> dict[str, Any]:
    """A Service over the Deployment's pods: port 80 to 8080."""
    metadata: dict[str, Any] = {"name": "chat"}
    if namespace:
        metadata["namespace"] = namespace
    if annotations:
        metadata["annotations"] = annotations
    spec: dict[str, Any] = {"selector": {"app": "chat"} if selector is None else selector}
    if type:
        spec["type"] = type
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {**spec, "ports": [{"port": 80, "targetPort": 8080, **port}]},
    }


def documents(text: str) -> list[Any]:
    """The values of a stream, empty documents left out."""
    return [one.value for one in ManifestFile.read("text", text).documents if one.value is not None]


def containers(spec: dict[str, Any]) -> list[Any]:
    """Ordinary containers first, then init containers."""
    return [*spec["containers"], *spec.get("initContainers", [])]
