"""Objects that carry a pod template, and its path inside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, NotInjectable, join, kind_of, mapping_at, strings_at

Templates = Mapping[tuple[str, str], str]
"""API group and kind to the path of the pod template inside the object."""

_TEMPLATE = "spec.template"
TEMPLATES: Templates = {
    ("", "Pod"): "",
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("extensions", "Deployment"): _TEMPLATE,
    ("extensions", "DaemonSet"): _TEMPLATE,
    ("extensions", "ReplicaSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): "spec.jobTemplate.spec.template",
    ("argoproj.io", "Rollout"): _TEMPLATE,
    ("apps.kruise.io", "CloneSet"): _TEMPLATE,
    ("apps.kruise.io", "StatefulSet"): _TEMPLATE,
    ("apps.kruise.io", "DaemonSet"): _TEMPLATE,
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
}
_SEARCH_DEPTH = 6
"""Levels below an object of an unknown kind that are searched for a pod template."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One object with a pod template. `template` is the object itself for a Pod.

    path: of the pod template inside the object, such as `spec.template`; empty for a Pod.
    """

    kind: str
    name: str
    namespace: str | None
    path: str
    object: dict[str, Any]
    template: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        metadata = mapping_at(self.template, "metadata", self.path)
        return strings_at(metadata, "labels", join(self.path, "metadata"))

    @property
    def is_batch(self) -> bool:
        """Whether its pods are meant to complete."""
        return self.kind in {"Job", "CronJob"}

    def __str__(self) -> str:
        return named(self.object)


def group_of(obj: dict[str, Any]) -> str:
    """Return the API group: `apps` of `apps/v1`, empty for the core."""
    version = obj.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def named(obj: dict[str, Any]) -> str:
    """Return an object's name for messages: `Deployment shop/chat`."""
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    namespace = metadata.get("namespace")
    return f"{obj.get('kind')} {namespace}/{name}" if namespace else f"{obj.get('kind')} {name}"


def parse_template_path(text: str) -> tuple[tuple[str, str], str]:
    """Parse `KIND.GROUP=PATH`, such as `GameServer.agones.dev=spec.template`, to an item of Templates."""
    resource, equals, path = text.partition("=")
    kind, _, group = resource.partition(".")
    if not equals or not kind or not path or not all(path.split(".")):
        raise ValueError("expected KIND.GROUP=PATH (GameServer.agones.dev=spec.template)")
    return (group, kind), path


def workload_of(obj: dict[str, Any], templates: Templates = TEMPLATES) -> Workload | None:
    """Return the workload that an object is, None if it carries no pod template.

    Raises NotInjectable for a template in an unknown kind or elsewhere, ManifestError for one that is missing.
    """
    group, kind = group_of(obj), str(obj.get("kind"))
    path = templates.get((group, kind))
    if path is None:
        _refuse_unknown(obj, group, kind)
        return None
    template, at = obj, ""
    for key in path.split(".") if path else ():
        at = join(at, key)
        inner = template.get(key)
        if inner is None and "workloadRef" in template:
            raise NotInjectable(at, "is elsewhere (workloadRef): inject the workload that it refers to")
        if not isinstance(inner, dict):
            raise ManifestError(at, f"must be a mapping, is {kind_of(inner)}")
        template = inner
    if not isinstance(template.get("spec"), dict):
        raise ManifestError(join(at, "spec"), f"must be a mapping, is {kind_of(template.get('spec'))}")
    metadata = mapping_at(obj, "metadata", "")
    name = metadata.get("name") or metadata.get("generateName") or ""
    return Workload(kind, str(name), metadata.get("namespace"), path, obj, template)


def _refuse_unknown(obj: dict[str, Any], group: str, kind: str) -> None:
    path = _find_template(obj, "", _SEARCH_DEPTH)
    if path:
        resource = f"{kind}.{group}" if group else kind
        raise NotInjectable(path, f"unknown kind; to inject it, pass --pod-template-path {resource}={path}")


def _find_template(value: dict[str, Any], path: str, depth: int) -> str | None:
    """Return the path of the first mapping with `spec.containers` below a mapping."""
    for key, inner in value.items():
        if not isinstance(inner, dict) or not isinstance(key, str):
            continue
        at = join(path, key)
        spec = inner.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
            return at
        found = _find_template(inner, at, depth - 1) if depth else None
        if found:
            return found
    return None


def annotation_places(workload: Workload) -> Iterator[tuple[dict[str, str], str]]:
    """Yield every annotations mapping of a workload with its path: the object's first, the pod template's last."""
    inner, path = workload.object, ""
    for key in (None, *(workload.path.split(".") if workload.path else ())):
        if key is not None:
            inner, path = inner[key], join(path, key)
        if "metadata" in inner:
            where = join(path, "metadata")
            yield strings_at(mapping_at(inner, "metadata", path), "annotations", where), f"{where}.annotations"


def helm_hook(workload: Workload) -> str | None:
    """Return the Helm hook that a workload is (`test`, `pre-upgrade`), None if it is part of the release."""
    annotations = mapping_at(mapping_at(workload.object, "metadata", ""), "annotations", "metadata")
    hook = annotations.get("helm.sh/hook")
    return hook if isinstance(hook, str) else None
